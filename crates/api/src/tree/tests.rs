//! A tree beside `serde_json::Value`, whose shape it has.

use proptest::prelude::*;
use serde_json::Value;

use super::{Number, Object, Tree};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 100, 30, |inner| {
        let members = proptest::collection::vec(("[a-d/~]{0,2}", inner.clone()), 0..30);
        prop_oneof![
            proptest::collection::vec(inner, 0..5).prop_map(Value::Array),
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[derive(Clone, Debug)]
enum Change {
    Insert(u8, i64),
    InsertAt(u8, u8),
    Remove(u8),
    SwapRemove(u8),
    Retain(u8),
    Sort,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => (any::<u8>(), any::<i64>()).prop_map(|(key, value)| Change::Insert(key, value)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(at, key)| Change::InsertAt(at, key)),
        4 => any::<u8>().prop_map(Change::Remove),
        2 => any::<u8>().prop_map(Change::SwapRemove),
        1 => (2..9u8).prop_map(Change::Retain),
        1 => Just(Change::Sort),
    ]
}

proptest! {
    #[test]
    fn reads_and_writes_as_serde_does(value in value()) {
        let tree = Tree::from(value.clone());
        let text = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(serde_json::to_string(&tree).unwrap(), &text[..]);
        prop_assert_eq!(tree.to_string(), &text[..]);
        prop_assert_eq!(&Value::from(tree.clone()), &value);
        // A number may read as its neighbour: both read the same.
        let again: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(serde_json::from_str::<Tree>(&text).unwrap(), Tree::from(again));
        let (mut sorted, mut tree) = (value, tree);
        sorted.sort_all_objects();
        tree.sort_all_objects();
        prop_assert_eq!(tree.to_string(), sorted.to_string());
    }

    #[test]
    fn pointers_and_steps_lead_where_serdes_do(value in value(), pointer in "(/[a-d01~+]{0,3}){0,3}") {
        let mut tree = Tree::from(value.clone());
        let expect = value.pointer(&pointer).cloned().map(Tree::from);
        prop_assert_eq!(tree.pointer(&pointer).cloned(), expect.clone());
        prop_assert_eq!(tree.pointer_mut(&pointer).cloned(), expect);
        prop_assert_eq!(tree.get("a").cloned(), value.get("a").cloned().map(Tree::from));
        prop_assert_eq!(&tree[0], &Tree::from(value[0].clone()));
    }

    /// Small objects and large ones, with keys found by looking and by hashing, beside a list of pairs.
    #[test]
    fn an_object_keeps_its_members(changes in proptest::collection::vec(change(), 0..200)) {
        let mut object = Object::new();
        let mut pairs: Vec<(String, Tree)> = Vec::new();
        for change in changes {
            let at = |key: &str, pairs: &[(String, Tree)]| pairs.iter().position(|(known, _)| known == key);
            let name = |key: u8| format!("key-{}", key % 64);
            match change {
                Change::Insert(key, value) => {
                    let key = name(key);
                    let before = at(&key, &pairs).map(|place| {
                        std::mem::replace(&mut pairs[place].1, value.into())
                    });
                    if before.is_none() {
                        pairs.push((key.clone(), value.into()));
                    }
                    prop_assert_eq!(object.insert(key, value.into()), before);
                }
                Change::InsertAt(place, key) => {
                    let key = name(key);
                    pairs.retain(|(known, _)| *known != key);
                    let place = usize::from(place) % (pairs.len() + 1);
                    pairs.insert(place, (key.clone(), Tree::Null));
                    object.insert_at(place, key, Tree::Null);
                }
                Change::Remove(key) => {
                    let before = at(&name(key), &pairs).map(|place| pairs.remove(place).1);
                    prop_assert_eq!(object.remove(&name(key)), before);
                }
                Change::SwapRemove(key) => {
                    let before = at(&name(key), &pairs).map(|place| pairs.swap_remove(place).1);
                    prop_assert_eq!(object.swap_remove(&name(key)), before);
                }
                Change::Retain(part) => {
                    let keep = |key: &str| key.len() + key.bytes().map(usize::from).sum::<usize>() % usize::from(part) != 5;
                    pairs.retain(|(key, _)| keep(key));
                    object.retain(|key, _| keep(key));
                }
                Change::Sort => {
                    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
                    object.sort_keys();
                }
            }
            let members: Vec<_> = object.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
            prop_assert_eq!(&members, &pairs);
            for key in 0..64 {
                let expect = at(&name(key), &pairs).map(|place| &pairs[place].1);
                prop_assert_eq!(object.get(&name(key)), expect);
            }
        }
        let backwards: Object = pairs.into_iter().rev().collect();
        prop_assert_eq!(&backwards, &object);
    }
}

#[test]
fn absent_members_are_null_and_created_on_write() {
    let mut tree = Tree::Null;
    assert_eq!(tree["a"]["b"][3], Tree::Null);
    tree["a"]["b"] = 1.into();
    assert_eq!(tree, crate::json!({"a": {"b": 1}}));
    assert_eq!(Tree::from(f64::NAN), Tree::Null);
    assert_eq!(Tree::Number(Number::from(1u64)), Tree::from(1i32));
    assert_eq!(size_of::<Tree>(), 32);
}
