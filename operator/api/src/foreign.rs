//! Kubernetes' own types in our schema: their first sentences, and bounds for their numbers.

use schemars::{
    Schema,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Value, json};

/// Bounds of the numbers in Kubernetes' types: its documentation states them in words alone.
const BOUNDS: &[(&str, i64, i64)] = &[
    ("defaultMode", 0, 0o777),
    ("mode", 0, 0o777),
    ("weight", 1, 100),
    ("maxSkew", 1, i32::MAX as i64),
    ("minDomains", 1, i32::MAX as i64),
    ("tolerationSeconds", 0, i32::MAX as i64),
];

/// Makes what is below a field whose type is Kubernetes' ours: descriptions of one sentence, as pages of them drown `kubectl explain`
/// and are kept in the datastore; and numbers with bounds. What we say of the field itself stays whole.
pub(crate) fn adopt(schema: &mut Schema) {
    bound(schema);
    transform_subschemas(&mut Below, schema);
}

/// [`adopt`] for tolerations. What a field may say is in Kubernetes' documentation alone: a pod with another word would be refused when
/// the one before it is gone.
pub(crate) fn adopt_tolerations(schema: &mut Schema) {
    adopt(schema);
    words(schema, "operator", &["Equal", "Exists"]);
    words(schema, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

/// [`adopt`] for spread constraints.
pub(crate) fn adopt_spread(schema: &mut Schema) {
    adopt(schema);
    words(schema, "whenUnsatisfiable", &["DoNotSchedule", "ScheduleAnyway"]);
}

/// [`adopt`] for profiles of seccomp and AppArmor.
pub(crate) fn adopt_profile(schema: &mut Schema) {
    adopt(schema);
    words(schema, "type", &["RuntimeDefault", "Localhost", "Unconfined"]);
}

/// Bounds a field of an object, or of the items of a list of them, to some words.
fn words(schema: &mut Schema, field: &str, words: &[&str]) {
    for at in [format!("/properties/{field}"), format!("/items/properties/{field}")] {
        if let Some(Value::Object(found)) = schema.pointer_mut(&at) {
            found.insert("enum".into(), json!(words));
        }
    }
}

struct Below;

impl Transform for Below {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::String(text)) = schema.get_mut("description")
            && let Some(end) = text.find(". ")
        {
            text.truncate(end + 1);
        }
        bound(schema);
        transform_subschemas(self, schema);
    }
}

fn bound(schema: &mut Schema) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, field) in properties.into_iter().flatten() {
        let bounds = BOUNDS.iter().find(|(known, ..)| known == name).filter(|_| field["type"] == "integer");
        if let (Some((_, least, most)), Some(field)) = (bounds, field.as_object_mut()) {
            field.insert("minimum".into(), json!(least));
            field.insert("maximum".into(), json!(most));
        }
    }
}
