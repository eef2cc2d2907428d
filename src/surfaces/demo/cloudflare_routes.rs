//! What the Cloudflare stand-in answers on each path, once a request may pass.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::cloudflare::Shared;
use super::cloudflare_zone::{ApiError, Zone};

/// Every path that is served.
pub(super) fn api(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/user/tokens/verify", get(verify_token))
        .route("/zones", get(list_zones))
        .route("/zones/{zone}", get(get_zone))
        .route(
            "/zones/{zone}/dns_records",
            get(list_records).post(create_record),
        )
        .route("/zones/{zone}/dns_records/batch", post(batch_records))
        .route(
            "/zones/{zone}/dns_records/{id}",
            get(get_record).patch(patch_record).delete(delete_record),
        )
        .with_state(shared)
}

type Answer = Result<axum::Json<Value>, ApiError>;

fn answer(result: &impl serde::Serialize) -> Answer {
    Ok(axum::Json(
        json!({ "success": true, "errors": [], "messages": [], "result": result }),
    ))
}

fn listed(result: &impl serde::Serialize, info: &Value) -> Answer {
    Ok(axum::Json(json!({
        "success": true, "errors": [], "messages": [], "result": result, "result_info": info,
    })))
}

fn body_of(bytes: &Bytes) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|_| {
        ApiError::new(
            400,
            9207,
            "Content-Type is application/json, the body is not",
        )
    })
}

async fn verify_token(State(shared): State<Arc<Shared>>) -> Answer {
    let served = shared.lock();
    let mut token = json!({
        "id": "ed17574386854bf78a67040be0a770b0", "status": served.token_status,
    });
    // A token without an end has no such field.
    if let (Some(end), Some(token)) = (served.token_end, token.as_object_mut()) {
        token.insert("expires_on".to_owned(), json!(end));
    }
    answer(&token)
}

async fn list_zones(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Answer {
    let served = shared.lock();
    let mut found: Vec<&Zone> = served.others.iter().chain([&served.zone]).collect();
    let mut page = "1";
    for (key, value) in &query {
        match key.as_str() {
            "name" => found.retain(|zone| zone.name == *value),
            "status" => found.retain(|zone| zone.status == *value),
            // The official clients turn pages until one is empty.
            "page" => page = value,
            "per_page" | "match" | "order" | "direction" => {}
            // Ours: the original ignores what it does not know.
            _ => {
                let what = format!("the stand-in does not know query parameter {key}={value}");
                return Err(ApiError::new(400, 9000, what));
            }
        }
    }
    let total = found.len();
    let zones = found.into_iter().filter(|_| page == "1");
    let zones: Vec<Value> = zones.map(Zone::describe).collect();
    let info = json!({
        "page": page.parse::<u64>().unwrap_or(1), "per_page": 20, "count": zones.len(),
        "total_count": total, "total_pages": total.min(1),
    });
    listed(&zones, &info)
}

async fn get_zone(State(shared): State<Arc<Shared>>, Path(zone): Path<String>) -> Answer {
    answer(&shared.zone(&zone)?.zone.describe())
}

async fn list_records(
    State(shared): State<Arc<Shared>>,
    Path(zone): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Answer {
    let page = shared.zone(&zone)?.zone.list(&query)?;
    listed(&page.records, &page.info)
}

async fn get_record(
    State(shared): State<Arc<Shared>>,
    Path((zone, id)): Path<(String, String)>,
) -> Answer {
    answer(shared.zone(&zone)?.zone.get(&id)?)
}

async fn patch_record(
    State(shared): State<Arc<Shared>>,
    Path((zone, id)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let body = body_of(&body)?;
    answer(&shared.zone(&zone)?.zone.patch(&id, &body)?)
}

async fn batch_records(
    State(shared): State<Arc<Shared>>,
    Path(zone): Path<String>,
    body: Bytes,
) -> Answer {
    let body = body_of(&body)?;
    answer(&shared.zone(&zone)?.zone.batch(&body)?)
}

async fn create_record(
    State(shared): State<Arc<Shared>>,
    Path(zone): Path<String>,
    body: Bytes,
) -> Answer {
    let body = body_of(&body)?;
    answer(&shared.zone(&zone)?.zone.create(&body)?)
}

async fn delete_record(
    State(shared): State<Arc<Shared>>,
    Path((zone, id)): Path<(String, String)>,
) -> Answer {
    answer(&shared.zone(&zone)?.zone.delete(&id)?)
}
