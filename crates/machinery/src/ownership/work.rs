//! Steps of work, counted in tests: nothing that a client sends may make them grow faster than its length.

use std::cell::Cell;

thread_local!(static STEPS: Cell<usize> = const { Cell::new(0) });

/// Counts work: comparisons, and values that are moved or looked at.
pub fn count(steps: usize) {
    STEPS.set(STEPS.get() + steps);
}

/// The steps that an act takes.
pub fn of<T>(act: impl FnOnce() -> T) -> usize {
    let before = STEPS.get();
    act();
    STEPS.get() - before
}
