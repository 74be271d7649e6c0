//! Programs a table: one transaction, and when the kernel refuses it, without the Service that is to blame.

use packetfilter::{Error, PacketFilter};
use rustc_hash::FxHashMap;

use client::Key;
use ipnet::IpNet;
use packetfilter::{Family, Ruleset};

use crate::base::{self, Networks, TABLE};
use crate::conntrack::Frontends;
use crate::state::{Change, Services, Table};

/// The most Services that are looked for one by one: where more are refused, it is not they who are to blame.
const MOST_REFUSED: usize = 10;

/// Brings a table up to date, and forgets the UDP flows that were sent on by older rules. Returns the Services that the kernel
/// refuses, which have the rules that they had before, if any. After an error nothing has changed: what was to be done has to
/// be done by a later call, and is every Service's rules where the table [is unknown](Table::is_unknown).
pub async fn program(
    filter: &dyn PacketFilter,
    table: &mut Table,
    networks: &Networks,
    services: Services,
) -> Result<Vec<(Key, Error)>, Error> {
    let base = base::ruleset(&table.settings, networks);
    let refused = match apply(filter, table, &base, services).await {
        Ok(()) => Vec::new(),
        Err((error @ Error::Run { .. }, _)) => return Err(error),
        Err((error, services)) => {
            tracing::warn!(%error, family = %table.family(), "a transaction is refused, looking for the Service that is to blame");
            apply_without_refused(filter, table, &base, services, error).await?
        }
    };
    // Flows are forgotten after the rules are in, or they would come back by the old ones.
    if table.is_unclean() {
        match forget_stale(filter, table, &networks.node_ports).await {
            Ok(()) => table.cleaned(),
            Err(error) => {
                tracing::warn!(%error, family = %table.family(), "connection tracking keeps stale flows");
            }
        }
    }
    Ok(refused)
}

/// One transaction. Where it fails, the table is as it was, and the Services come back.
async fn apply(
    filter: &dyn PacketFilter,
    table: &mut Table,
    base: &Ruleset,
    mut services: Services,
) -> Result<(), (Error, Services)> {
    loop {
        let anew = table.is_unknown();
        let mut change = table.update(base.clone(), services);
        let applied = run(filter, table, &mut change, anew).await;
        let error = match applied {
            Ok(()) => {
                table.applied(change);
                return Ok(());
            }
            Err(error) => error,
        };
        services = table.undo(change);
        let lost = match error {
            // The transaction may have been applied or not.
            Error::Run { .. } => true,
            Error::Refused { .. } => !is_there(filter, table).await,
        };
        if lost && !anew {
            table.distrust();
            if let Error::Refused { .. } = error {
                continue;
            }
        }
        return Err((error, services));
    }
}

async fn run(filter: &dyn PacketFilter, table: &Table, change: &mut Change, anew: bool) -> Result<(), Error> {
    let length = change.script.len();
    if anew && table.forwards().any(|forward| forward.affinity.is_some()) {
        match filter.remembered(table.family(), TABLE).await {
            Ok(remembered) => table.remember(&remembered, &mut change.script),
            Err(error) => {
                tracing::warn!(%error, "which clients have which endpoint cannot be read, they lose it")
            }
        }
    }
    if change.script.is_empty() {
        return Ok(());
    }
    match filter.apply(&change.script).await {
        // Rules matter more than what clients had.
        Err(Error::Refused { message, .. }) if change.script.len() > length => {
            tracing::warn!(error = message, "the table is made anew without the clients' endpoints");
            change.script.truncate(length);
            filter.apply(&change.script).await
        }
        result => result,
    }
}

/// Halves the Services until the refused ones are alone, by asking the kernel what it would take. Nothing changes meanwhile.
async fn apply_without_refused(
    filter: &dyn PacketFilter,
    table: &mut Table,
    base: &Ruleset,
    services: Services,
    error: Error,
) -> Result<Vec<(Key, Error)>, Error> {
    let mut all: FxHashMap<Key, _> = FxHashMap::default();
    if table.is_unknown() {
        all.extend(table.take());
    }
    all.extend(services);
    if check(filter, table, base, Services::new()).await.is_err() {
        return Err(error);
    }
    let (mut accepted, mut refused) = (Services::new(), Vec::new());
    let mut groups = vec![all.into_iter().collect::<Services>()];
    while let Some(group) = groups.pop() {
        match check(filter, table, base, group).await {
            Ok(group) => accepted.extend(group),
            Err((error @ Error::Run { .. }, _)) => return Err(error),
            Err((refusal, mut group)) if group.len() < 2 => {
                refused.extend(group.pop().map(|(key, _)| (key, refusal)));
                if refused.len() > MOST_REFUSED {
                    return Err(error);
                }
            }
            Err((_, mut group)) => {
                groups.push(group.split_off(group.len() / 2));
                groups.push(group);
            }
        }
    }
    apply(filter, table, base, accepted).await.map_err(|(error, _)| error)?;
    Ok(refused)
}

/// Whether the kernel would take these Services. They come back.
async fn check(
    filter: &dyn PacketFilter,
    table: &mut Table,
    base: &Ruleset,
    services: Services,
) -> Result<Services, (Error, Services)> {
    let change = table.update(base.clone(), services);
    let result = if change.script.is_empty() { Ok(()) } else { filter.check(&change.script).await };
    let services = table.undo(change);
    match result {
        Ok(()) => Ok(services),
        Err(error) => Err((error, services)),
    }
}

/// Whether the table is still there: other programs may flush the host's rules. Emptying a chain is tried and not done, since to
/// list one makes nft read the elements of all maps.
async fn is_there(filter: &dyn PacketFilter, table: &Table) -> bool {
    filter.check(&format!("flush chain {} {TABLE} services\n", table.family())).await.is_ok()
}

/// What is to be done from time to time: sees whether the tables are still there, and deletes chains without use.
pub async fn look_after(filter: &dyn PacketFilter, tables: &mut [Table]) {
    for table in tables {
        let family = table.family();
        if !is_there(filter, table).await {
            tracing::warn!(%family, "the rules are gone, programming them anew");
            table.distrust();
            continue;
        }
        let script: String =
            table.unused().iter().map(|chain| format!("delete chain {family} {TABLE} {chain}\n")).collect();
        if script.is_empty() {
            continue;
        }
        match filter.apply(&script).await {
            Ok(()) => table.deleted(),
            Err(error) => tracing::warn!(%error, %family, "chains without use stay for now"),
        }
    }
}

/// Reads the connection tracking table once and deletes only stale flows.
async fn forget_stale(filter: &dyn PacketFilter, table: &Table, node_ports: &[IpNet]) -> Result<(), Error> {
    let frontends = Frontends::new(table.forwards(), table.former(), node_ports);
    if frontends.is_empty() {
        return Ok(());
    }
    let mut result = Ok(());
    let flows = filter.flows(table.family()).await?;
    for flow in flows.iter().filter(|flow| frontends.is_stale(flow, |address| filter.is_local(address))) {
        if let Err(error) = filter.forget(flow).await {
            result = Err(error);
        }
    }
    result
}

/// Removes the tables (`--cleanup`).
pub async fn clean_up(filter: &dyn PacketFilter) -> anyhow::Result<()> {
    for family in [Family::Ip, Family::Ip6] {
        filter.apply(&format!("add table {family} {TABLE}\ndelete table {family} {TABLE}\n")).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
