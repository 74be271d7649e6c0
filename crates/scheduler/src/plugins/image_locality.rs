//! `ImageLocality`: prefers nodes that have the pod's images, weighed by size and by how many nodes have them.

use crate::cluster::{NodeView, Pod, Symbol, Table};
use crate::framework::{Cycle, MAX_SCORE, Plugin, Point};

const MEBIBYTE: i64 = 1024 * 1024;
/// Images of less are as good as loaded.
const LEAST: i64 = 23 * MEBIBYTE;
/// Per container; more makes no difference.
const MOST: i64 = 1000 * MEBIBYTE;

pub struct ImageLocality;

/// How much each image of the pod that some node has counts: a share of its size.
struct Shares(Vec<(Symbol, f64)>);

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreScore, Point::Score]
    }

    fn pre_score(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table, _: &[usize]) -> bool {
        let nodes = table.nodes().max(1) as f64;
        let shares: Vec<(Symbol, f64)> = pod
            .needs
            .images
            .iter()
            .map(|image| (image.clone(), f64::from(table.image_nodes(image)) / nodes))
            .filter(|(_, share)| *share > 0.0)
            .collect();
        let any = !shares.is_empty();
        cycle.set(own, Shares(shares));
        any
    }

    fn score(&self, own: usize, cycle: &Cycle, pod: &Pod, view: NodeView<'_>) -> i64 {
        let Some(Shares(shares)) = cycle.state(own) else { return 0 };
        let sum: i64 = shares
            .iter()
            .filter_map(|(image, share)| {
                view.node.images.get(image).map(|size| (*size as f64 * share) as i64)
            })
            .sum();
        let most = MOST * pod.needs.images.len().max(1) as i64;
        MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
    }
}
