//! Between the DNS library and the answers: routes a query to the cluster's data or to the host's name servers.

use hickory_proto::op::{Edns, Metadata, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::runtime::Time;
use hickory_resolver::net::{DnsError, NetError};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use rand::seq::SliceRandom;

use crate::answer::{Answer, Responder, TTL};
use crate::directory::Facts;
use crate::question;

/// The longest answer by UDP, whatever a client says it takes.
const MAX_PAYLOAD: u16 = 4096;

pub struct Handler<F> {
    domain: Name,
    facts: F,
    resolver: TokioResolver,
}

/// What goes into a response.
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authority: Vec<Record>,
    additional: Vec<Record>,
}

impl Reply {
    fn code(code: ResponseCode) -> Reply {
        Reply {
            code,
            authoritative: false,
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        }
    }
}

impl<F: Facts> Handler<F> {
    /// The name servers are those of the host's `/etc/resolv.conf`.
    pub fn new(domain: &str, facts: F) -> anyhow::Result<Self> {
        Self::with(domain, facts, TokioResolver::builder_tokio()?.build()?)
    }

    /// As [`Handler::new`], with another way to ask for names that are not the cluster's.
    pub fn with(domain: &str, facts: F, resolver: TokioResolver) -> anyhow::Result<Self> {
        let domain = Name::from_ascii(format!("{}.", domain.trim_end_matches('.')))?.to_lowercase();
        Ok(Handler { domain, facts, resolver })
    }

    async fn reply(&self, name: &Name, kind: RecordType) -> Reply {
        let responder = Responder { facts: &self.facts, domain: &self.domain };
        if self.domain.zone_of(name) {
            return match responder.resolve(name, kind) {
                Ok(answer) => self.authoritative(answer, kind).await,
                Err(error) => {
                    tracing::warn!(%name, %error, "a name that cannot be written");
                    Reply::code(ResponseCode::ServFail)
                }
            };
        }
        let text = name.to_lowercase().to_ascii();
        let labels: Vec<&str> = text.split('.').filter(|label| !label.is_empty()).collect();
        if let Some(address) = question::reverse(&labels)
            && let Ok(records) = responder.reverse(name, address)
            && !records.is_empty()
        {
            return Reply { authoritative: true, answers: records, ..Reply::code(ResponseCode::NoError) };
        }
        self.forward(name, kind).await
    }

    async fn authoritative(&self, mut answer: Answer, kind: RecordType) -> Reply {
        // A name outside the cluster is followed for the client, as far as it can be.
        if let Some(target) = &answer.outside {
            answer.records.extend(self.forward(target, kind).await.answers);
        }
        shuffle(&mut answer.records);
        shuffle(&mut answer.additional);
        let code = if answer.exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let authority = if answer.records.is_empty() { vec![self.start_of_authority()] } else { Vec::new() };
        Reply { code, authoritative: true, answers: answer.records, authority, additional: answer.additional }
    }

    async fn forward(&self, name: &Name, kind: RecordType) -> Reply {
        match self.resolver.lookup(name.clone(), kind).await {
            Ok(found) => Reply { answers: found.answers().to_vec(), ..Reply::code(ResponseCode::NoError) },
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Reply::code(none.response_code),
            Err(error) => {
                tracing::debug!(%name, %error, "the host's name servers gave no answer");
                Reply::code(ResponseCode::ServFail)
            }
        }
    }

    fn start_of_authority(&self) -> Record {
        let under = |label: &str| Name::from_ascii(label).and_then(|label| label.append_domain(&self.domain));
        let (Ok(server), Ok(contact)) = (under("ns.dns"), under("hostmaster")) else {
            return Record::from_rdata(
                self.domain.clone(),
                TTL,
                RData::SOA(SOA::new(Name::root(), Name::root(), 1, 7200, 1800, 86400, TTL)),
            );
        };
        Record::from_rdata(
            self.domain.clone(),
            TTL,
            RData::SOA(SOA::new(server, contact, 1, 7200, 1800, 86400, TTL)),
        )
    }
}

/// Many clients take the first address: each gets another. Aliases stay in front of what they lead to.
fn shuffle(records: &mut [Record]) {
    let is_address = |record: &Record| matches!(record.data, RData::A(_) | RData::AAAA(_));
    let aliases = records.iter().take_while(|record| !is_address(record)).count();
    if records[aliases..].iter().all(is_address) {
        records[aliases..].shuffle(&mut rand::rng());
    }
}

/// What an answer says of EDNS where the request spoke of it.
fn edns(request: &Request) -> Option<Edns> {
    let asked = request.edns.as_ref()?;
    let mut edns = Edns::new();
    edns.set_max_payload(asked.max_payload().min(MAX_PAYLOAD));
    Some(edns)
}

#[async_trait::async_trait]
impl<F: Facts> RequestHandler for Handler<F> {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        let edns = edns(request);
        let later_version = request.edns.as_ref().is_some_and(|asked| asked.version() > 0);
        let reply = match request.request_info() {
            Ok(_) if later_version => Reply::code(ResponseCode::BADVERS),
            Ok(info) => self.reply(info.query.original().name(), info.query.query_type()).await,
            Err(_) => Reply::code(ResponseCode::FormErr),
        };
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let message =
            builder.build(metadata, &reply.answers, &reply.authority, std::iter::empty(), &reply.additional);
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "an answer could not be sent");
                ResponseInfo::from(hickory_proto::op::Header { metadata, counts: Default::default() })
            }
        }
    }
}

#[cfg(test)]
mod tests;
