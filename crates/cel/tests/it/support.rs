//! The environment and the values of the recorded tables, and values as the tables print them.

use api::Tree;
use cel::value::{Timestamp, Value};
use cel::{Activation, Environment, Level, Type};

pub fn object() -> Tree {
    api::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-1", "labels": {"app": "web", "tier-x": "a"}, "annotations": null},
        "spec": {
            "replicas": 3, "ratio": 0.5, "big": 9007199254740993i64, "hostNetwork": false,
            "containers": [
                {"name": "c1", "image": "nginx:1.25", "ports": [{"containerPort": 80}, {"containerPort": 443, "name": "https"}]},
                {"name": "c2", "image": "redis"}
            ],
            "empty": [], "none": {}, "ints": [1, 2, 3], "mixed": [1, "a", true, null, 2.5]
        }
    })
}

pub fn environment(level: Level) -> Environment {
    let string_map = Type::map(Type::String, Type::Int);
    Environment::kubernetes(level)
        .with_variable("i", Type::Int)
        .with_variable("u", Type::Uint)
        .with_variable("d", Type::Double)
        .with_variable("s", Type::String)
        .with_variable("y", Type::Bytes)
        .with_variable("b", Type::Bool)
        .with_variable("t", Type::Timestamp)
        .with_variable("du", Type::Duration)
        .with_variable("li", Type::list(Type::Int))
        .with_variable("ls", Type::list(Type::String))
        .with_variable("m", string_map)
        .with_variable("o", Type::Dyn)
        .with_variable("authorizer", Type::object("kubernetes.authorization.Authorizer"))
}

pub fn activation<'v>(environment: &Environment, object: &'v Tree, map: &'v Tree) -> Activation<'v> {
    let mut activation = Activation::new(environment);
    let mut set =
        |name: &str, value| activation.set(environment.position(name).expect("it is declared"), value);
    set("i", Value::Int(5));
    set("u", Value::Uint(7));
    set("d", Value::Double(2.5));
    set("s", Value::borrowed("h\u{e9}llo"));
    set("y", Value::Bytes(b"abc".as_slice().into()));
    set("b", Value::Bool(true));
    set("t", Value::Timestamp(Timestamp { seconds: 1_709_210_096, nanos: 789_000_000 }));
    set("du", Value::Duration(5_400_000_000_000));
    set("li", Value::list(vec![Value::Int(3), Value::Int(1), Value::Int(2)]));
    set("ls", Value::list(vec![Value::borrowed("b"), Value::borrowed("a"), Value::borrowed("c")]));
    set("m", Value::of_tree(map, None).expect("it is a map"));
    set("o", Value::of_tree(object, None).expect("it is an object"));
    activation
}

/// A value as the tables have it.
pub fn show(value: &Value<'_>) -> String {
    use cel::library::Extended;
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => format!("{value}u"),
        Value::Double(value) if value.is_infinite() => {
            format!("double({}Inf)", if *value > 0.0 { "+" } else { "-" })
        }
        Value::Double(value) if value.abs() >= 1e6 => {
            let text = format!("{value:e}");
            format!("double({})", text.replace('e', "e+"))
        }
        Value::Double(value) => format!("double({value})"),
        Value::String(text) => serde_json::to_string(&**text).expect("text is JSON"),
        Value::Bytes(bytes) => {
            format!("bytes({})", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        Value::Timestamp(at) => {
            let at = jiff::Timestamp::new(at.seconds, at.nanos as i32).expect("it is in range");
            format!("timestamp({at})")
        }
        Value::Duration(nanos) => format!("duration({nanos}ns)"),
        Value::List(list) => {
            let items =
                list.iter().map(|item| item.map_or_else(|error| error.to_string(), |item| show(&item)));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        Value::Map(map) => {
            let entries = map.entries().expect("entries can be read");
            let mut entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", show(key), show(value))).collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Optional(None) => "none".to_owned(),
        Value::Optional(Some(value)) => format!("some({})", show(value)),
        Value::Type(of) => format!("type({})", of.name()),
        Value::Extended(Extended::Quantity(quantity)) => format!("quantity({})", quantity.quantity),
        Value::Extended(Extended::Url(url)) => format!("url({})", url.text),
        Value::Extended(Extended::Ip(address)) => format!("ip({address})"),
        Value::Extended(Extended::Cidr(cidr)) => format!("cidr({}/{})", cidr.address, cidr.length),
        Value::Extended(Extended::Semver(version)) => format!("semver({version})"),
        Value::Extended(Extended::Format(format)) => format!("format({format:?})"),
        Value::Extended(Extended::Authorization(_)) => "authorization".to_owned(),
    }
}
