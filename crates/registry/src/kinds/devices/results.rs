//! What was given for a claim: devices, who uses them, and what their drivers say of them.

use std::collections::HashSet;

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::{Path, Shown};

use super::claims::{Names, configuration, raw};
use super::{binding, label, pool_name, tolerations};
use crate::kinds::volume::driver_name;
use crate::kinds::{conditions, pod_spec};
use crate::rules;
use crate::strategy::Context;
use crate::tree::{get, has, list, object_mut, text, texts};

const USERS: usize = 256;
const RESULTS: usize = 32;
const CONFIGURATIONS: usize = 64;
const CONDITIONS: usize = 8;
const DATA_BYTES: usize = 10 * 1024;
const ADDRESSES: usize = 16;

/// A device, or a share of one.
type Device<'t> = (&'t str, &'t str, &'t str, &'t str);

fn device(result: &Tree) -> Device<'_> {
    (text(result, "driver"), text(result, "pool"), text(result, "device"), text(result, "shareID"))
}

fn allocated(claim: &Tree) -> HashSet<Device<'_>> {
    list(claim, "status.allocation.devices.results").iter().map(device).collect()
}

/// Drops what is said of devices that the claim no longer has.
pub(super) fn prepare(_: &Context<'_>, claim: &mut Tree, old: Option<&Tree>) {
    let Some(old) = old else { return };
    let given_back: Vec<bool> = {
        let (before, now) = (allocated(old), allocated(claim));
        let gone = |one: &Tree| before.contains(&device(one)) && !now.contains(&device(one));
        list(claim, "status.devices").iter().map(gone).collect()
    };
    let Some(status) = object_mut(claim, "status") else { return };
    if let Some(devices) = status.get_mut("devices").and_then(Tree::as_array_mut) {
        let mut gone = given_back.into_iter();
        devices.retain(|_| !gone.next().unwrap_or(false));
        if devices.is_empty() {
            status.remove("devices");
        }
    }
}

pub(super) fn check(_: &Context<'_>, claim: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let Some(old) = old else { return };
    let path = Path::new("status");
    let (users, at) = (list(claim, "status.reservedFor"), path.field("reservedFor"));
    for (index, user) in users.iter().enumerate().filter(|_| users.len() <= USERS) {
        for field in ["resource", "name", "uid"] {
            if text(user, field).is_empty() {
                errors.push(at.index(index).field(field).required(""));
            }
        }
    }
    let own = allocated(claim);
    for (index, one) in list(claim, "status.devices").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        status_of(one, &own, &path.field("devices").index(index), errors);
    }
    if !users.is_empty() {
        if !has(claim, "status.allocation") {
            errors.push(at.forbidden("may not be specified when `allocated` is not set"));
        } else if has(claim, "metadata.deletionTimestamp") {
            let before: HashSet<&Tree> = list(old, "status.reservedFor").iter().collect();
            if users.iter().any(|user| !before.contains(user)) {
                let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
                errors.push(at.forbidden(detail));
            }
        }
    }
    if has(claim, "status.allocation") && !has(old, "status.allocation") {
        let names = Names::of(get(claim, "spec.devices"));
        allocation(get(claim, "status.allocation"), &names, &path.field("allocation"), errors);
    }
}

fn allocation(allocation: &Tree, names: &Names<'_>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let devices = path.field("devices");
    let (results, at) = (list(allocation, "devices.results"), devices.field("results"));
    for (index, result) in results.iter().enumerate().filter(|_| results.len() <= RESULTS) {
        if is_full(errors) {
            return;
        }
        let at = at.index(index);
        names.check(text(result, "request"), &at.field("request"), errors);
        label(text(result, "device"), &at.field("device"), errors);
        binding(result, &at, errors);
        tolerations(result, &at, errors);
    }
    let (all, at) = (list(allocation, "devices.config"), devices.field("config"));
    for (index, one) in all.iter().enumerate().filter(|_| all.len() <= CONFIGURATIONS) {
        if is_full(errors) {
            return;
        }
        names.check_all(one, &at.index(index), errors);
        configuration(one, &at.index(index), errors);
    }
    let selector = get(allocation, "nodeSelector");
    if !selector.is_null() {
        rules::descend(selector, pod_spec::NODE_SELECTOR, &path.field("nodeSelector"), errors);
    }
}

fn status_of(one: &Tree, own: &HashSet<Device<'_>>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    driver_name(text(one, "driver"), &path.field("driver"), errors);
    pool_name(text(one, "pool"), &path.field("pool"), errors);
    label(text(one, "device"), &path.field("device"), errors);
    if !own.contains(&device(one)) {
        let (driver, pool, name, share) = device(one);
        let shown = api::json!({"Driver": driver, "Pool": pool, "Device": name, "ShareID": share});
        errors.push(path.invalid(
            Shown::Plain(String::from_utf8_lossy(&api::json::to_vec(&shown)).into_owned()),
            "must be an allocated device in the claim",
        ));
    }
    let (all, at) = (list(one, "conditions"), path.field("conditions"));
    if all.len() > CONDITIONS {
        errors.push(at.too_many(all.len(), CONDITIONS));
    }
    conditions::check(all, &at, errors);
    if has(one, "data") {
        raw(get(one, "data"), DATA_BYTES, &path.field("data"), errors);
    }
    let addresses = path.field("networkData.ips");
    if list(one, "networkData.ips").len() <= ADDRESSES {
        for (index, address) in texts(one, "networkData.ips").enumerate() {
            interface_address(address, &addresses.index(index), errors);
        }
    }
}

/// An address with the length of its network's prefix, in the one way to write it.
fn interface_address(address: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const NOT_ONE: &str = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
    let Some((ip, net)) = crate::net::parse_cidr(address) else {
        errors.push(path.invalid(address, NOT_ONE));
        return;
    };
    let canonical = format!("{ip}/{}", net.prefix_len());
    if canonical != address {
        errors.push(path.invalid(address, &format!("must be in canonical form ({canonical:?})")));
    }
}
