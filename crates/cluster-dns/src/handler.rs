//! Between the DNS library and the answers: routes a query to the cluster's data or to the host's name servers.

use hickory_proto::op::{Metadata, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::runtime::Time;
use hickory_resolver::net::{DnsError, NetError};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::answer::{Answer, Responder, TTL};
use crate::directory::Directory;
use crate::question;

pub struct Handler {
    domain: Name,
    directory: Directory,
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

impl Handler {
    /// The name servers are those of the host's `/etc/resolv.conf`.
    pub fn new(domain: &str, directory: Directory) -> anyhow::Result<Handler> {
        let domain = Name::from_ascii(format!("{}.", domain.trim_end_matches('.')))?.to_lowercase();
        let resolver = TokioResolver::builder_tokio()?.build()?;
        Ok(Handler { domain, directory, resolver })
    }

    async fn reply(&self, name: &Name, kind: RecordType) -> Reply {
        let text = name.to_lowercase().to_ascii();
        let labels: Vec<&str> = text.split('.').filter(|label| !label.is_empty()).collect();
        let responder = Responder { facts: &self.directory, domain: &self.domain };
        let depth = usize::from(self.domain.num_labels());
        if self.domain.zone_of(name) {
            let question =
                question::read(labels.get(..labels.len().saturating_sub(depth)).unwrap_or_default());
            return match responder.answer(name, &question, kind) {
                Ok(answer) => self.authoritative(answer, kind).await,
                Err(error) => {
                    tracing::warn!(%name, %error, "a name that cannot be written");
                    Reply::code(ResponseCode::ServFail)
                }
            };
        }
        if let Some(address) = question::reverse(&labels)
            && let Ok(records) = responder.reverse(name, address)
            && !records.is_empty()
        {
            return Reply { authoritative: true, answers: records, ..Reply::code(ResponseCode::NoError) };
        }
        self.forward(name, kind).await
    }

    async fn authoritative(&self, mut answer: Answer, kind: RecordType) -> Reply {
        // An external name outside the cluster is followed for the client, as far as it can be.
        let outside = match answer.records.first().map(|record| &record.data) {
            Some(RData::CNAME(target)) if kind != RecordType::CNAME && !self.domain.zone_of(target) => {
                Some(target.0.clone())
            }
            _ => None,
        };
        if let Some(target) = outside {
            answer.records.extend(self.forward(&target, kind).await.answers);
        }
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

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        let reply = match request.request_info() {
            Ok(info) => self.reply(info.query.original().name(), info.query.query_type()).await,
            Err(_) => Reply::code(ResponseCode::FormErr),
        };
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        let message = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &reply.answers,
            &reply.authority,
            std::iter::empty(),
            &reply.additional,
        );
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "an answer could not be sent");
                ResponseInfo::from(hickory_proto::op::Header { metadata, counts: Default::default() })
            }
        }
    }
}
