//! What one class may hold in memory, by count and by bytes (design §9). Owned by the class's intake thread: charged when a record is
//! read, released when it comes back.

/// One class's budget.
#[derive(Debug)]
pub struct Budget {
    records: usize,
    bytes: usize,
    max_records: usize,
    max_bytes: usize,
}

impl Budget {
    /// Room for `max_records` and `max_bytes`.
    #[must_use]
    pub const fn new(max_records: usize, max_bytes: usize) -> Self {
        Self { records: 0, bytes: 0, max_records, max_bytes }
    }

    /// How many more records may be read now. An empty budget always admits one, however large it is.
    #[must_use]
    pub const fn room(&self) -> usize {
        if self.records == 0 {
            return if self.max_records == 0 { 1 } else { self.max_records };
        }
        if self.bytes >= self.max_bytes { 0 } else { self.max_records.saturating_sub(self.records) }
    }

    /// Bytes that are free.
    #[must_use]
    pub const fn free_bytes(&self) -> usize {
        self.max_bytes.saturating_sub(self.bytes)
    }

    /// Whether at least half of it is free, the point at which a long stall ends.
    #[must_use]
    pub const fn half_free(&self) -> bool {
        self.records * 2 <= self.max_records && self.bytes * 2 <= self.max_bytes
    }

    /// A record of `bytes` is in memory now.
    pub const fn charge(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes;
    }

    /// A record of `bytes` is not in memory any more.
    pub const fn release(&mut self, bytes: usize) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Records in memory.
    #[must_use]
    pub const fn records(&self) -> usize {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_budget_admits_one_record_however_large() {
        let mut budget = Budget::new(10, 100);
        assert_eq!(budget.room(), 10);
        budget.charge(5_000);
        assert_eq!(budget.room(), 0);
        budget.release(5_000);
        assert_eq!(budget.room(), 10);
    }

    #[test]
    fn it_is_bounded_by_count_and_by_bytes() {
        let mut budget = Budget::new(3, 100);
        budget.charge(40);
        assert_eq!(budget.room(), 2);
        budget.charge(40);
        budget.charge(10);
        assert_eq!((budget.room(), budget.records()), (0, 3));
        budget.release(40);
        assert!(!budget.half_free());
        budget.release(40);
        assert!(budget.half_free());
        budget.charge(100);
        assert_eq!(budget.room(), 0);
    }
}
