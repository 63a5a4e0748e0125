//! The share of memory that programs have: in the model it has no end.

/// Whether what programs may have together is used up.
pub fn memory_is_used_up() -> bool {
    false
}

/// Whether the server has lent memory since this was last asked.
pub fn take_has_lent() -> bool {
    false
}

/// Takes back what was lent; tells whether there is room now.
pub fn settle_loans() -> bool {
    true
}
