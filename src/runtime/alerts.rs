//! What the decision loop wants told → alerts for the outbox.

use crate::decision::decide::{Order, Telling};
use crate::model::alert::{Alert, AlertLevel};
use crate::model::diagnosis::Severity;
use crate::model::{ClusterName, Epoch, SiteName};
