//! The text of `/metrics`, made anew at most a tenth of the time: it is a walk over every series, and anybody may ask for it.

use bytes::Bytes;
use std::time::Instant;

/// After a rendering as many times its own duration pass before the next.
const REST: u32 = 9;

/// The latest text, and until when it is good enough.
#[derive(Debug, Default)]
pub(super) struct Rendering {
    text: Bytes,
    rests_until: Option<Instant>,
}

impl Rendering {
    /// The text; made by `render` unless that was done a moment ago, by this clock.
    pub(super) fn get(&mut self, clock: impl Fn() -> Instant, render: impl FnOnce() -> String) -> Bytes {
        let begun = clock();
        if self.rests_until.is_none_or(|until| begun >= until) {
            self.text = render().into();
            let took = clock().saturating_duration_since(begun);
            self.rests_until = Some(begun + took * (REST + 1));
        }
        self.text.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::Duration;

    #[test]
    fn whoever_asks_without_end_costs_a_tenth_of_the_time() {
        let (born, passed) = (Instant::now(), Cell::new(0));
        let clock = || born + Duration::from_millis(passed.get());
        let (mut rendering, mut rendered) = (Rendering::default(), Vec::new());
        while passed.get() < 1000 {
            let asked = passed.get();
            let _ = rendering.get(clock, || {
                rendered.push(asked);
                passed.set(asked + 20);
                asked.to_string()
            });
            passed.set(passed.get() + 1);
        }
        assert_eq!(rendered, [0, 200, 400, 600, 800]);
        assert_eq!(rendering.get(clock, || "1000".into()), "1000");
        assert_eq!(rendering.get(clock, || "at once".into()), "at once", "one that cost nothing may be made anew at once");
    }
}
