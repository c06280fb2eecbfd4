//! The place of an error in a JSON schema.

use serde_json::Value;

/// How many parts of a schema to try.
const MAX_TRIALS: usize = 200;

/// The JSON pointer of the innermost part of a schema that `fails`, such as `#/properties/age`.
pub(crate) fn schema_path(schema: &Value, fails: impl Fn(&Value) -> bool) -> String {
    let mut path = String::from("#");
    let (mut inner, mut n_trials) = (schema, 0);
    let mut fails = |part: &Value| {
        n_trials += 1;
        part.is_object() && n_trials <= MAX_TRIALS && fails(part)
    };
    // Some parts are lists or objects of schemas, such as `anyOf` and `properties`, so two levels are tried.
    while let Some((names, part)) = parts(inner)
        .flat_map(|(name, part)| {
            let below = parts(part).map({
                let name = name.clone();
                move |(inner, part)| (format!("{name}/{inner}"), part)
            });
            below.chain([(name, part)])
        })
        .find(|(_, part)| fails(part))
    {
        path += &format!("/{names}");
        inner = part;
    }
    path
}

/// The values of an object or a list, with their names in a JSON pointer.
fn parts(value: &Value) -> Box<dyn Iterator<Item = (String, &Value)> + '_> {
    match value {
        Value::Object(parts) => {
            Box::new(parts.iter().map(|(key, part)| (key.replace('~', "~0").replace('/', "~1"), part)))
        }
        Value::Array(parts) => Box::new(parts.iter().enumerate().map(|(idx, part)| (idx.to_string(), part))),
        _ => Box::new(std::iter::empty()),
    }
}
