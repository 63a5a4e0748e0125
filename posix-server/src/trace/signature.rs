//! Kinds of arguments.

/// What an argument of a system call is, for showing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A descriptor.
    Fd,
    /// The directory that a path begins at.
    Dir,
    /// A path.
    Path,
    /// Another string.
    Text,
    /// An address.
    Ptr,
    /// A signed number.
    Int,
    /// An unsigned number.
    Uint,
    /// Bits.
    Hex,
    /// Permissions.
    Mode,
    /// The flags of `open`.
    Open,
    /// The protection of `mmap`.
    Prot,
    /// The flags of `mmap`.
    Map,
    /// The flags of the `*at` calls.
    At,
    /// The flags of `clone`.
    Clone,
    /// A signal.
    Sig,
    /// A buffer that the call reads; the next argument is its length.
    Bytes,
    /// A buffer that the call fills; the result is how many bytes.
    Filled,
    /// A list of strings that ends with a null pointer.
    Strings,
    /// A clock.
    Clock,
    /// What `lseek` counts from.
    Whence,
}
