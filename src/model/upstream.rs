//! Groups of app servers behind a proxy, as the proxy's file has them.

/// Where the proxy's file has a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It takes requests.
    In,
    /// It takes none.
    Out,
}
