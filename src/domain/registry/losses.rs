//! What one registry has that the next would not.

use super::{Registry, Schedule, Span};

/// What would be lost by replacing one registry with another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Domains there were, and how many of them are gone.
    pub domains: usize,
    /// See `domains`.
    pub dropped: usize,
    /// Of the domains that stay: how many had bindings and have none any more, or lost all bindings of one kind (recording or callback) for
    /// the whole domain. The kinds are counted apart because they may stand in separate rows; an ended binding still counts as one.
    pub unbound: usize,
    /// In the domains that stay bound: paths that had an endless binding of their own, and how many of them have none of one kind any more.
    pub paths: usize,
    /// See `paths`.
    pub unbound_paths: usize,
    /// Callback templates that had keys and have none any more: what they send would not be signed.
    pub unsigned: Vec<Box<str>>,
}

impl Losses {
    /// What is in `before` and not in `next`.
    #[must_use]
    pub fn between(before: &Registry, next: &Registry) -> Self {
        let mut losses = Self { domains: before.domains.len(), ..Self::default() };
        for (name, domain) in &before.domains {
            match next.domains.get(name) {
                None => losses.dropped += 1,
                Some(left) if domain.is_bound() && !left.is_bound() || domain.whole.loses_a_kind(Some(&left.whole)) => losses.unbound += 1,
                Some(left) => {
                    let paths: Vec<_> = domain.paths.iter().filter(|(_, schedule)| schedule.is_endless()).collect();
                    losses.paths += paths.len();
                    losses.unbound_paths += paths.iter().filter(|(path, schedule)| schedule.loses_a_kind(left.paths.get(*path))).count();
                }
            }
        }
        let unsigned = before.callback_templates.iter().filter(|(name, template)| {
            let left = next.callback_templates.get(*name);
            !template.keys.keys().is_empty() && left.is_some_and(|left| left.keys.keys().is_empty())
        });
        losses.unsigned = unsigned.map(|(name, _)| name.as_ref().into()).collect();
        losses.unsigned.sort_unstable();
        losses
    }
}

impl Schedule {
    /// Whether this has rows of a kind of which `left` has none.
    fn loses_a_kind(&self, left: Option<&Self>) -> bool {
        let (recording, callback) = left.map_or((true, true), |left| (left.recording.is_empty(), left.callback.is_empty()));
        !self.recording.is_empty() && recording || !self.callback.is_empty() && callback
    }

    /// Whether a row binds it without an end.
    fn is_endless(&self) -> bool {
        self.recording.iter().any(Span::is_endless) || self.callback.iter().any(Span::is_endless)
    }
}

impl<T> Span<T> {
    const fn is_endless(&self) -> bool {
        self.until.is_none()
    }
}
