//! Values of Kubernetes' libraries.

use std::net::IpAddr;
use std::sync::Arc;

use super::authorizer::Authorization;
use super::format::NamedFormat;
use super::network::Cidr;
use super::quantity::Amount;
use super::semver::Semver;
use super::url::Url;
use crate::types::Type;

#[derive(Clone, Debug)]
pub enum Extended {
    Quantity(Amount),
    Url(Arc<Url>),
    Ip(IpAddr),
    Cidr(Cidr),
    Semver(Arc<Semver>),
    Format(&'static NamedFormat),
    Authorization(Arc<Authorization>),
}

impl Extended {
    pub(crate) fn type_of(&self) -> Type {
        match self {
            Extended::Quantity(_) => Type::object("kubernetes.Quantity"),
            Extended::Url(_) => Type::object("kubernetes.URL"),
            Extended::Ip(_) => Type::opaque("net.IP"),
            Extended::Cidr(_) => Type::opaque("net.CIDR"),
            Extended::Semver(_) => Type::object("kubernetes.Semver"),
            Extended::Format(_) => Type::object("kubernetes.NamedFormat"),
            Extended::Authorization(authorization) => Type::object(authorization.type_name()),
        }
    }

    /// Bytes of an address.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Extended::Ip(address) => Some(address_size(address)),
            Extended::Cidr(cidr) => Some(address_size(&cidr.address)),
            _ => None,
        }
    }

    pub(crate) fn pattern_size(&self) -> u64 {
        match self {
            Extended::Format(format) => format.pattern_size,
            _ => 0,
        }
    }

    pub(crate) fn equals(&self, other: &Extended) -> bool {
        match (self, other) {
            (Extended::Quantity(one), Extended::Quantity(other)) => one.quantity == other.quantity,
            (Extended::Url(one), Extended::Url(other)) => one.text == other.text,
            (Extended::Ip(one), Extended::Ip(other)) => one == other,
            (Extended::Cidr(one), Extended::Cidr(other)) => one == other,
            (Extended::Semver(one), Extended::Semver(other)) => one.precedence(other).is_eq(),
            (Extended::Format(one), Extended::Format(other)) => one.name == other.name,
            _ => false,
        }
    }
}

fn address_size(address: &IpAddr) -> u64 {
    if address.is_ipv4() { 4 } else { 16 }
}
