//! The state behind the Cloudflare stand-in: one zone, its records, and what a request may do to
//! them. Pure: a request in, a result or an API error out.
//!
//! Stricter than the original where a client could be wrong without noticing: unknown query
//! parameters and unknown fields are refused here, while the original ignores them.
//!
//! Source: Cloudflare API v4, "DNS Records for a Zone". Error codes come from published reports of
//! real answers; those marked *ours* have none and only keep the shape.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The longest comment on a free plan. Source: Cloudflare docs, DNS record attributes.
const COMMENT_CHARS_MAX: usize = 100;
/// Source: Cloudflare API, list DNS records, `per_page`.
const PER_PAGE_DEFAULT: usize = 100;
const PER_PAGE_MAX: usize = 5_000_000;

/// A record as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Fully qualified, no final dot.
    pub name: String,
    /// `A`, `AAAA`, `CNAME`, `TXT`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address or name.
    pub content: String,
    /// Whether it could be proxied.
    pub proxiable: bool,
    /// Whether it is.
    pub proxied: bool,
    /// Seconds; 1 means automatic.
    pub ttl: u32,
    settings: Map<String, Value>,
    meta: Map<String, Value>,
    /// Free text.
    pub comment: Option<String>,
    /// `name:value`.
    pub tags: Vec<String>,
    created_on: String,
    modified_on: String,
}

impl Record {
    /// A record that is not proxied and has a TTL of 60 seconds.
    #[must_use]
    pub fn new(kind: &str, name: &str, content: &str) -> Self {
        Self {
            id: String::new(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            content: content.to_owned(),
            proxiable: matches!(kind, "A" | "AAAA" | "CNAME"),
            proxied: false,
            ttl: 60,
            settings: Map::new(),
            meta: Map::new(),
            comment: None,
            tags: Vec::new(),
            created_on: String::new(),
            modified_on: String::new(),
        }
    }

    /// With this comment.
    #[must_use]
    pub fn comment(mut self, comment: &str) -> Self {
        self.comment = Some(comment.to_owned());
        self
    }
}

/// What the API answers when it refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) code: u32,
    pub(super) message: String,
    /// Where the useful code often is.
    pub(super) chain: Option<(u32, String)>,
}

impl ApiError {
    pub(super) fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            chain: None,
        }
    }

    pub(super) fn chained(mut self, code: u32, message: impl Into<String>) -> Self {
        self.chain = Some((code, message.into()));
        self
    }

    fn invalid(code: u32, message: impl Into<String>) -> Self {
        Self::new(400, 1004, "DNS Validation Error").chained(code, message)
    }
}

/// One page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) records: Vec<Record>,
    pub(super) info: Value,
}

/// What a batch consists of, in the order in which it is carried out.
const BATCH: [&str; 4] = ["deletes", "patches", "puts", "posts"];
/// Source: Cloudflare docs, batch record changes: 200 on the free plan.
const BATCH_MAX: usize = 200;

/// The zone.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: &'static str,
    pub(super) records: Vec<Record>,
    /// Counts writes: ids and times derive from it, so that a test sees the same ones every time.
    writes: u32,
}

impl Zone {
    /// A zone with these records; its name is the last two labels of the first one's.
    pub(super) fn new(id: &str, records: Vec<Record>) -> Self {
        let first = records.first().map_or("example.com", |first| &first.name);
        let labels: Vec<&str> = first.split('.').collect();
        let name = labels
            .get(labels.len().saturating_sub(2)..)
            .unwrap_or(&[])
            .join(".");
        let mut zone = Self::empty(id, &name, "active");
        for record in records {
            zone.insert(record);
        }
        zone
    }

    pub(super) fn empty(id: &str, name: &str, status: &'static str) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            status,
            records: Vec::new(),
            writes: 0,
        }
    }

    pub(super) fn describe(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "status": self.status, "paused": false,
            "type": "full", "development_mode": 0,
            "name_servers": ["ada.ns.cloudflare.com", "bob.ns.cloudflare.com"],
        })
    }

    /// The records that match every parameter of the query.
    pub(super) fn list(&self, query: &[(String, String)]) -> Result<Page, ApiError> {
        let (mut page, mut per_page) = (1, PER_PAGE_DEFAULT);
        let mut found: Vec<&Record> = self.records.iter().collect();
        for (key, value) in query {
            match key.as_str() {
                "name" | "name.exact" => {
                    found.retain(|record| record.name.eq_ignore_ascii_case(value));
                }
                "type" => found.retain(|record| record.kind == *value),
                "content" | "content.exact" => found.retain(|record| record.content == *value),
                "page" => page = number(key, value, usize::MAX)?,
                "per_page" => per_page = number(key, value, PER_PAGE_MAX)?,
                "match" if value == "all" => {}
                "order" | "direction" => {}
                // Ours: the original ignores what it does not know.
                _ => {
                    let what = format!("the stand-in does not know query parameter {key}={value}");
                    return Err(ApiError::new(400, 9000, what));
                }
            }
        }
        let total = found.len();
        let records: Vec<Record> = found
            .into_iter()
            .skip(per_page.saturating_mul(page - 1))
            .take(per_page)
            .cloned()
            .collect();
        let info = json!({
            "page": page, "per_page": per_page, "count": records.len(),
            "total_count": total, "total_pages": total.div_ceil(per_page),
        });
        Ok(Page { records, info })
    }

    pub(super) fn get(&self, id: &str) -> Result<&Record, ApiError> {
        self.records
            .iter()
            .find(|record| record.id == id)
            .ok_or_else(|| ApiError::new(404, 81044, "Record does not exist."))
    }

    /// Changes the given fields and leaves the others.
    pub(super) fn patch(&mut self, id: &str, body: &Value) -> Result<Record, ApiError> {
        let mut record = self.get(id)?.clone();
        change(&mut record, body)?;
        check(&record)?;
        self.refuse_conflicts(&record)?;
        record.modified_on = self.next_time();
        if let Some(place) = self.records.iter_mut().find(|other| other.id == id) {
            *place = record.clone();
        }
        Ok(record)
    }

    pub(super) fn create(&mut self, body: &Value) -> Result<Record, ApiError> {
        let mut record = Record::new("", "", "");
        change(&mut record, body)?;
        self.add(record)
    }

    pub(super) fn add(&mut self, record: Record) -> Result<Record, ApiError> {
        check(&record)?;
        self.refuse_conflicts(&record)?;
        Ok(self.insert(record))
    }

    pub(super) fn delete(&mut self, id: &str) -> Result<Value, ApiError> {
        self.get(id)?;
        self.records.retain(|record| record.id != id);
        Ok(json!({ "id": id }))
    }

    /// Carries out a whole batch or nothing of it. Source: Cloudflare API v4, batch DNS records:
    /// deletes, patches, puts, posts, in this order, in one transaction.
    pub(super) fn batch(&mut self, body: &Value) -> Result<Value, ApiError> {
        let wrong = |what: &str| ApiError::invalid(9207, format!("{what} has the wrong type"));
        let lists = body.as_object().ok_or_else(|| wrong("the body"))?;
        if let Some(unknown) = lists.keys().find(|key| !BATCH.contains(&key.as_str())) {
            return Err(wrong(unknown));
        }
        let mut after = self.clone();
        let (mut done, mut operations) = (Map::new(), 0);
        for kind in BATCH {
            let none = Value::Array(Vec::new());
            let list = lists.get(kind).unwrap_or(&none);
            let list = list.as_array().ok_or_else(|| wrong(kind))?;
            operations += list.len();
            let results = list.iter().map(|it| after.operate(kind, it));
            done.insert(
                kind.to_owned(),
                json!(results.collect::<Result<Vec<_>, _>>()?),
            );
        }
        if !(1..=BATCH_MAX).contains(&operations) {
            let what = format!("a batch has 1 to {BATCH_MAX} operations, not {operations}");
            return Err(ApiError::invalid(9207, what));
        }
        *self = after;
        Ok(Value::Object(done))
    }

    fn operate(&mut self, kind: &str, operation: &Value) -> Result<Record, ApiError> {
        let mut fields = operation.clone();
        let id = fields
            .as_object_mut()
            .and_then(|fields| fields.remove("id"));
        let id = id.as_ref().and_then(Value::as_str);
        match (kind, id) {
            ("posts", None) => self.create(&fields),
            ("deletes", Some(id)) if fields == json!({}) => {
                let record = self.get(id)?.clone();
                self.delete(id)?;
                Ok(record)
            }
            ("patches", Some(id)) => self.patch(id, &fields),
            // Nothing here needs it: ours.
            _ => Err(ApiError::invalid(9207, format!("{kind} is malformed"))),
        }
    }

    fn insert(&mut self, mut record: Record) -> Record {
        record.created_on = self.next_time();
        record.modified_on.clone_from(&record.created_on);
        record.id = format!("372e67954025e0ba6aaa6d58{:08x}", self.writes);
        self.records.push(record.clone());
        record
    }

    fn next_time(&mut self) -> String {
        self.writes += 1;
        let (minute, second) = (self.writes / 60 % 60, self.writes % 60);
        format!("2026-01-01T05:{minute:02}:{second:02}.123456Z")
    }

    fn refuse_conflicts(&self, record: &Record) -> Result<(), ApiError> {
        let same_name = |other: &&Record| other.id != record.id && other.name == record.name;
        for other in self.records.iter().filter(same_name) {
            if other.kind == record.kind && other.content == record.content {
                let what = "An identical record already exists.";
                return Err(ApiError::new(400, 81058, what));
            }
            if record.kind == "CNAME" {
                let what = "An A, AAAA, or CNAME record with that host already exists.";
                return Err(ApiError::new(400, 81053, what));
            }
            if other.kind == "CNAME" {
                let what = "A CNAME record with that host already exists.";
                return Err(ApiError::new(400, 81054, what));
            }
        }
        Ok(())
    }
}

fn number(key: &str, value: &str, max: usize) -> Result<usize, ApiError> {
    let parsed = value.parse().ok().filter(|n| (1..=max).contains(n));
    parsed.ok_or_else(|| ApiError::new(400, 9000, format!("{key} must be a number from 1 on")))
}

fn change(record: &mut Record, body: &Value) -> Result<(), ApiError> {
    let wrong = |field: &str| ApiError::invalid(9207, format!("{field} has the wrong type"));
    let fields = body.as_object().ok_or_else(|| wrong("the body"))?;
    for (field, value) in fields {
        let text = || {
            value
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| wrong(field))
        };
        match field.as_str() {
            "name" => record.name = text()?,
            "type" => record.kind = text()?,
            "content" => record.content = text()?,
            "comment" if value.is_null() => record.comment = None,
            "comment" => record.comment = Some(text()?),
            "proxied" => record.proxied = value.as_bool().ok_or_else(|| wrong(field))?,
            "ttl" => {
                let ttl = value.as_u64().and_then(|ttl| u32::try_from(ttl).ok());
                record.ttl = ttl.ok_or_else(|| wrong(field))?;
            }
            "tags" => {
                let tags = value.as_array().ok_or_else(|| wrong(field))?;
                let tags = tags.iter().map(|tag| tag.as_str().map(str::to_owned));
                record.tags = tags.collect::<Option<_>>().ok_or_else(|| wrong(field))?;
            }
            // Ours: the original ignores what it does not know.
            _ => return Err(wrong(field)),
        }
    }
    Ok(())
}

fn check(record: &Record) -> Result<(), ApiError> {
    let content = record.content.as_str();
    match record.kind.as_str() {
        "A" if content.parse::<Ipv4Addr>().is_err() => Err(ApiError::invalid(
            9005,
            "Content for A record must be a valid IPv4 address.",
        )),
        "AAAA" if content.parse::<Ipv6Addr>().is_err() => Err(ApiError::invalid(
            9006,
            "Content for AAAA record must be a valid IPv6 address.",
        )),
        "CNAME" if !content.contains('.') || content.parse::<Ipv4Addr>().is_ok() => Err(
            ApiError::invalid(9007, "Content for CNAME record is invalid."),
        ),
        "A" | "AAAA" | "CNAME" | "TXT" => Ok(()),
        _ => Err(ApiError::invalid(9004, "DNS record type is invalid.")),
    }?;
    if record.ttl != 1 && !(60..=86_400).contains(&record.ttl) {
        let what = "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.";
        return Err(ApiError::invalid(9021, what));
    }
    let comment = record.comment.as_deref().unwrap_or("");
    // Ours: the limit is documented, its code is not.
    if comment.chars().count() > COMMENT_CHARS_MAX || comment.contains(['\n', '\r']) {
        let what = format!("Comment must be one line of at most {COMMENT_CHARS_MAX} characters.");
        return Err(ApiError::invalid(9301, what));
    }
    if !record.tags.is_empty() {
        let what = format!(
            "DNS record has {} tags, exceeding the quota of 0.",
            record.tags.len()
        );
        return Err(ApiError::invalid(9300, what));
    }
    Ok(())
}
