//! Families: how a metric is registered, with all its label sets at zero from the first scrape on.

use super::label::Label;
use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::marker::PhantomData;

/// The children of a family with one closed label, found by index.
pub(super) struct Closed<L, T> {
    children: Box<[T]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label, T> Closed<L, T> {
    /// One child for each value of the label.
    pub(super) fn new(child: impl Fn(&'static str) -> T) -> Self {
        Self { children: L::ALL.iter().map(|label| child(label.text())).collect(), label: PhantomData }
    }

    /// The child of `label`.
    pub(super) fn of(&self, label: L) -> &T {
        &self.children[label.index()]
    }
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> Result<C, Error> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, Error> {
    registered(registry, IntCounter::new(name, help)?)
}

pub(super) fn counter_vec(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

pub(super) fn counters<L: Label>(registry: &Registry, name: &str, help: &str, label: &str) -> Result<Closed<L, IntCounter>, Error> {
    let family = counter_vec(registry, name, help, &[label])?;
    Ok(Closed::new(|value| family.with_label_values(&[value])))
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<Gauge, Error> {
    registered(registry, Gauge::new(name, help)?)
}

pub(super) fn int_gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, Error> {
    registered(registry, IntGauge::new(name, help)?)
}

pub(super) fn gauge_vec(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, Error> {
    registered(registry, GaugeVec::new(Opts::new(name, help), labels)?)
}

pub(super) fn int_gauge_vec(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

pub(super) fn gauges<L: Label>(registry: &Registry, name: &str, help: &str, label: &str) -> Result<Closed<L, Gauge>, Error> {
    let family = gauge_vec(registry, name, help, &[label])?;
    Ok(Closed::new(|value| family.with_label_values(&[value])))
}

pub(super) fn int_gauges<L: Label>(registry: &Registry, name: &str, help: &str, label: &str) -> Result<Closed<L, IntGauge>, Error> {
    let family = int_gauge_vec(registry, name, help, &[label])?;
    Ok(Closed::new(|value| family.with_label_values(&[value])))
}

pub(super) fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
    registered(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
}

pub(super) fn histograms<L: Label>(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
    buckets: &[f64],
) -> Result<Closed<L, Histogram>, Error> {
    let family = registered(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &[label])?)?;
    Ok(Closed::new(|value| family.with_label_values(&[value])))
}

/// `n` as a gauge's value; what does not fit is shown as the largest.
pub(super) fn whole(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}
