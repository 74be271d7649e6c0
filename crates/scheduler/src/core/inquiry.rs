//! An attempt that extenders have a say in. They are asked outside of the core, which does not stand still meanwhile: with
//! their answers the attempt is made again on what there is by then. What they were not asked about cannot be chosen.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::profile::Profile;
use super::queue::Entry;
use super::{Attempt, Core};
use crate::cluster::{Pod, Symbol};
use crate::framework::{Diagnosis, Reason, Reasons, Reject};
use crate::plugins::{Candidate, Preemption};

/// An attempt that waits for extenders. Until [`Core::resume`], the pod is in the queue as one that is asked about.
pub struct Inquiry {
    pub pod: Arc<Pod>,
    pub profile: Arc<Profile>,
    pub question: Question,
    answers: Answers,
    diagnosis: Diagnosis,
}

/// What extenders are asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// Whether the node that the pod was promised does.
    Promised(Symbol),
    /// Which nodes do, and how good they are.
    Nodes(Vec<Symbol>),
    /// For which candidates the victims do.
    Victims(Vec<Candidate>),
}

/// An error ends the attempt, or the preemption.
pub enum Answer {
    Nodes(Result<Verdicts, String>),
    Victims(Result<Vec<Candidate>, String>),
}

/// What extenders say of the nodes that they were asked about. A node that is in neither list is out without a reason.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    pub kept: Vec<Symbol>,
    /// Why, and whether taking pods away would not change it.
    pub failed: FxHashMap<Symbol, (Arc<str>, bool)>,
    /// In the measure of the plugins' sums.
    pub scores: FxHashMap<Symbol, i64>,
}

impl Verdicts {
    pub fn rejects(&self, node: &Symbol) -> Option<Reject> {
        let (message, unresolvable) = self.failed.get(node)?;
        let reasons = Reasons::One(Reason::Message(message.clone()));
        Some(Reject { reasons, unresolvable: *unresolvable })
    }
}

/// What is known of the extenders' verdicts in an attempt.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub promised: Option<(Symbol, Verdicts)>,
    pub nodes: Option<Verdicts>,
    /// Where the search began that led to the question.
    pub begin: usize,
}

impl Core {
    /// Keeps account of an attempt that extenders have a say in.
    pub(super) fn inquire(
        &mut self,
        entry: Entry,
        profile: Arc<Profile>,
        question: Question,
        answers: Answers,
        diagnosis: Diagnosis,
    ) -> Attempt {
        let pod = entry.pod.clone();
        self.queue.ask(entry);
        Attempt::Ask(Box::new(Inquiry { pod, profile, question, answers, diagnosis }))
    }

    /// Goes on with an attempt when extenders have answered.
    pub fn resume(&mut self, inquiry: Inquiry, answer: Answer, now: Duration) -> Attempt {
        // Gone, going, or bound by somebody else meanwhile.
        let Some(entry) = self.queue.answered(&inquiry.pod.uid) else { return Attempt::Skipped };
        let Inquiry { pod, profile, question, mut answers, mut diagnosis } = inquiry;
        match (question, answer) {
            (_, Answer::Nodes(Err(message))) => {
                self.queue.failed(entry, now);
                Attempt::Failed { pod, message }
            }
            (Question::Promised(node), Answer::Nodes(Ok(verdicts))) => {
                answers.promised = Some((node, verdicts));
                self.schedule(entry, profile, answers, now)
            }
            (_, Answer::Nodes(Ok(verdicts))) => {
                answers.nodes = Some(verdicts);
                self.schedule(entry, profile, answers, now)
            }
            (_, Answer::Victims(result)) => {
                let candidates =
                    result.map_err(|message| diagnosis.add_post_filter(&format!("preemption: {message}")));
                let found = candidates.ok().map(|candidates| match candidates.is_empty() {
                    true => Preemption::Ineligible("preemption: no candidate node for preemption"),
                    false => Preemption::Candidates(candidates),
                });
                self.unschedulable(entry, found, diagnosis, now)
            }
        }
    }

    /// Takes down that the pod fits nowhere, and what preemption found for it.
    pub(super) fn unschedulable(
        &mut self,
        entry: Entry,
        found: Option<Preemption>,
        mut diagnosis: Diagnosis,
        now: Duration,
    ) -> Attempt {
        let pod = entry.pod.clone();
        let (victims, ended_nominations) = self.nominate(found, &pod, &mut diagnosis, now);
        let message = diagnosis.text();
        if victims.is_some() {
            self.queue.preempts(&pod.uid);
        }
        if diagnosis.plugins == 0 {
            self.queue.failed(entry, now);
        } else {
            self.queue.unschedulable(entry, diagnosis.plugins, now);
        }
        Attempt::Unschedulable { pod, message, victims, ended_nominations, remedy: diagnosis.remedy }
    }
}
