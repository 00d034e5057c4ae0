//! What one registry has that the next would not.

use super::{Registry, Schedule, Span};

/// What would be lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Domains there were, and how many of them are gone.
    pub domains: usize,
    /// See `domains`.
    pub dropped: usize,
    /// How many of those that stay had bindings and have none any more. One that ended is a binding.
    pub unbound: usize,
    /// Paths with a binding of their own for good there were in the domains that stay bound, and how many of those have none at all any more.
    pub paths: usize,
    /// See `paths`.
    pub unbound_paths: usize,
    /// Callback templates that had keys and have none any more: what they send would not be signed.
    pub unsigned: Vec<Box<str>>,
}

impl Losses {
    /// From `before` to `next`.
    #[must_use]
    pub fn between(before: &Registry, next: &Registry) -> Self {
        let mut losses = Self { domains: before.domains.len(), ..Self::default() };
        for (name, domain) in &before.domains {
            match next.domains.get(name) {
                None => losses.dropped += 1,
                Some(left) if !left.is_bound() => losses.unbound += usize::from(domain.is_bound()),
                Some(left) => {
                    let paths: Vec<_> = domain.paths.iter().filter(|(_, schedule)| schedule.is_endless()).collect();
                    losses.paths += paths.len();
                    losses.unbound_paths += paths.iter().filter(|(path, _)| !left.paths.contains_key(*path)).count();
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
