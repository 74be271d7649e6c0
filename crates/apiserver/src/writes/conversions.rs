//! Conversions that are met in the middle of work that does not wait, where somebody has to be asked for them: the comparison with the
//! versions of managers, of objects that take shape in it. The work fails for want of them, they are asked for, and it is done again.
//! So a webhook that does not answer keeps nobody waiting but the request, and no thread.

use std::sync::Arc;

use api::Tree;
use parking_lot::Mutex;
use registry::Kind;

/// What was converted for one piece of work, and what it lacks.
#[derive(Default)]
pub struct Conversions(Mutex<State>);

#[derive(Default)]
struct State {
    known: Vec<Known>,
    missing: Vec<Missing>,
}

struct Known {
    to: Arc<Kind>,
    object: Tree,
    converted: Result<Tree, String>,
}

/// Objects that are converted together.
struct Missing {
    from: Arc<Kind>,
    to: Arc<Kind>,
    objects: Vec<Tree>,
}

impl State {
    fn find(&self, object: &Tree, to: &Kind) -> Option<&Result<Tree, String>> {
        let known = self.known.iter().find(|known| known.to.is_same_version(to) && known.object == *object);
        known.map(|known| &known.converted)
    }

    fn miss(&mut self, object: &Tree, from: &Arc<Kind>, to: &Arc<Kind>) {
        let together =
            |missing: &&mut Missing| Arc::ptr_eq(&missing.from, from) && Arc::ptr_eq(&missing.to, to);
        match self.missing.iter_mut().find(together) {
            Some(missing) if missing.objects.contains(object) => {}
            Some(missing) => missing.objects.push(object.clone()),
            None => {
                let (from, to) = (Arc::clone(from), Arc::clone(to));
                self.missing.push(Missing { from, to, objects: vec![object.clone()] });
            }
        }
    }
}

impl Conversions {
    /// The object at this version, where that was asked for. An error otherwise, which ends the attempt.
    pub fn get(&self, object: &Tree, from: &Arc<Kind>, to: &Arc<Kind>) -> Result<Tree, String> {
        let mut state = self.0.lock();
        if let Some(converted) = state.find(object, to) {
            return converted.clone();
        }
        state.miss(object, from, to);
        Err(format!("{} is not yet asked for", to.api_version()))
    }

    /// Has these objects asked for at these versions together.
    pub fn prepare(&self, objects: [&Tree; 2], from: &Arc<Kind>, to: &[&Arc<Kind>]) -> Result<(), String> {
        let mut state = self.0.lock();
        let mut missing = Vec::new();
        for to in to {
            for object in objects {
                match state.find(object, to) {
                    Some(Ok(_)) => {}
                    // the others are not needed any more
                    Some(Err(error)) => return Err(error.clone()),
                    None => missing.push((object, to)),
                }
            }
        }
        let Some((_, first)) = missing.first() else { return Ok(()) };
        let error = format!("{} is not yet asked for", first.api_version());
        for (object, to) in missing {
            state.miss(object, from, to);
        }
        Err(error)
    }

    /// Does the work until it lacks nothing.
    pub async fn complete<T>(&self, mut work: impl FnMut() -> T) -> T {
        loop {
            {
                let done = work();
                if self.0.lock().missing.is_empty() {
                    return done;
                }
            }
            self.ask().await;
        }
    }

    /// Asks for what is missing, up to the first failure.
    async fn ask(&self) {
        let missing = std::mem::take(&mut self.0.lock().missing);
        for Missing { from, to, objects } in missing {
            let answer = from.convert(&to, objects.clone()).await;
            let failed = answer.is_err();
            let converted: Vec<Result<Tree, String>> = match answer {
                Ok(converted) => converted.into_iter().map(Ok).collect(),
                Err(status) => objects.iter().map(|_| Err(status.message.clone())).collect(),
            };
            let known = objects.into_iter().zip(converted);
            let known = known.map(|(object, converted)| Known { to: Arc::clone(&to), object, converted });
            self.0.lock().known.extend(known);
            if failed {
                return;
            }
        }
    }
}
