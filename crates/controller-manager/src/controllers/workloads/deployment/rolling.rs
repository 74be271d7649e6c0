//! The arithmetic of sizes: surge, unavailability, proportions.

use std::cmp::Reverse;

use controllers::scaled::{Round, resolve};
use controllers::views::Deployment;

use super::{annotations, plan::Set};

fn rolls(deployment: &Deployment) -> bool {
    deployment.spec.strategy.type_ != "Recreate"
}

/// How many pods there may be above the wanted number.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if rolls(deployment) { limits(deployment).0 } else { 0 }
}

/// How many of the wanted pods may be missing.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    if !rolls(deployment) || deployment.spec.replicas == 0 {
        return 0;
    }
    limits(deployment).1.min(deployment.spec.replicas)
}

/// Surge and unavailability; never both zero, or nothing could move.
fn limits(deployment: &Deployment) -> (i32, i32) {
    let rolling = deployment.spec.strategy.rolling_update.as_ref();
    let total = deployment.spec.replicas;
    let surge = resolve(rolling.and_then(|rolling| rolling.max_surge.as_ref()), total, Round::Up);
    let unavailable =
        resolve(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), total, Round::Down);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// How large the new set may become now, when it has `size` and all sets together `current`.
pub(super) fn new_size(deployment: &Deployment, size: i32, current: i32) -> i32 {
    let wanted = deployment.spec.replicas;
    if !rolls(deployment) || size > wanted {
        return wanted;
    }
    let room = wanted + max_surge(deployment) - current;
    if room <= 0 { size } else { size + room.min(wanted - size) }
}

/// How many pods of a set will be available. A set that was made smaller just now still reports those that go.
fn available(set: &Set) -> i32 {
    set.view.status.available_replicas.min(set.replicas)
}

/// The sizes the old sets (oldest first) may shrink to: first pods that are not available anyway, then as
/// many as leaves enough available ones.
pub(super) fn shrink_old(deployment: &Deployment, new: &Set, old: &[Set]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|set| set.replicas).collect();
    let minimum = deployment.spec.replicas - max_unavailable(deployment);
    let total: i32 = sizes.iter().sum::<i32>() + new.replicas;
    let new_missing = new.replicas - available(new);
    let mut spare = total - minimum - new_missing;
    if sizes.iter().sum::<i32>() == 0 || spare <= 0 {
        return sizes;
    }
    for (size, set) in sizes.iter_mut().zip(old) {
        let fewer = spare.min(*size - available(set));
        *size -= fewer;
        spare -= fewer;
    }
    let mut spare = old.iter().chain([new]).map(available).sum::<i32>() - minimum;
    for size in &mut sizes {
        let fewer = spare.min(*size).max(0);
        *size -= fewer;
        spare -= fewer;
    }
    sizes
}

/// New sizes after the deployment was resized. With one active set that is simple; in the middle of a
/// rollout every active set takes its share, and the largest what rounding leaves.
pub(super) fn proportional<'a>(
    deployment: &Deployment,
    sets: &[Set<'a>],
    new: Option<&Set<'a>>,
) -> Vec<(String, i32)> {
    let wanted = deployment.spec.replicas;
    let mut active: Vec<&Set> = sets.iter().filter(|set| set.replicas > 0).collect();
    let only = match active.len() {
        0 => new.or_else(|| sets.iter().max_by_key(|set| set.view.metadata.created())),
        1 => active.first().copied(),
        _ => None,
    };
    if let Some(only) = only {
        return if only.replicas == wanted { Vec::new() } else { vec![(only.name().to_owned(), wanted)] };
    }
    if active.is_empty() {
        return Vec::new();
    }
    let saturated = new.is_some_and(|new| {
        new.replicas == wanted
            && annotations::desired(&new.view.metadata) == Some(wanted)
            && new.view.status.available_replicas == wanted
    });
    if saturated {
        let old = active.into_iter().filter(|set| new.is_none_or(|new| new.name() != set.name()));
        return old.map(|set| (set.name().to_owned(), 0)).collect();
    }
    if !rolls(deployment) {
        return Vec::new();
    }

    let most = if wanted > 0 { wanted + max_surge(deployment) } else { 0 };
    let difference = most - active.iter().map(|set| set.replicas).sum::<i32>();
    if difference > 0 {
        active.sort_by_key(|set| (Reverse(set.replicas), Reverse(set.view.metadata.created())));
    } else {
        active.sort_by_key(|set| (Reverse(set.replicas), set.view.metadata.created()));
    }
    let mut left = difference;
    let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
    for set in &active {
        let share = if left == 0 {
            0
        } else if left > 0 {
            share(deployment, set).min(left)
        } else {
            share(deployment, set).max(left)
        };
        left -= share;
        sizes.push(set.replicas + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + left).max(0);
    }
    active.iter().zip(sizes).map(|(set, size)| (set.name().to_owned(), size)).collect()
}

/// By how much a set changes if it keeps its part of the whole.
fn share(deployment: &Deployment, set: &Set) -> i32 {
    let wanted = deployment.spec.replicas;
    if wanted == 0 {
        return -set.replicas;
    }
    let most = f64::from(wanted + max_surge(deployment));
    let before = match annotations::max(&set.view.metadata) {
        Some(before) if before > 0 => before,
        _ => deployment.status.replicas,
    };
    if before == 0 {
        return 0;
    }
    let size = (f64::from(set.replicas) * most / f64::from(before)).round();
    // Both factors are 32-bit, so a size beyond that means a broken annotation.
    size.clamp(0.0, f64::from(i32::MAX)) as i32 - set.replicas
}
