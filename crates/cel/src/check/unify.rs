//! Agreement of types: which type may stand where another is declared, with type parameters bound on the way.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::types::Type;

/// Bindings of type parameters. A failed attempt takes back what it has bound.
#[derive(Default)]
pub(super) struct Bindings {
    bound: FxHashMap<Arc<str>, Type>,
    /// What each binding has replaced, since the attempt began.
    trail: Vec<(Arc<str>, Option<Type>)>,
}

impl Bindings {
    /// Whether `from` may stand where `to` is expected; binds parameters if so.
    pub fn assign(&mut self, from: &Type, to: &Type) -> bool {
        self.attempt(|bindings| bindings.assignable(from, to))
    }

    /// The same for lists of types, one by one.
    pub fn assign_all(&mut self, from: &[Type], to: &[Type]) -> bool {
        self.attempt(|bindings| bindings.assignable_all(from, to))
    }

    fn attempt(&mut self, attempt: impl FnOnce(&mut Self) -> bool) -> bool {
        self.trail.clear();
        let agrees = attempt(self);
        while let Some((parameter, before)) = self.trail.pop() {
            if agrees {
                continue;
            }
            match before {
                Some(before) => self.bound.insert(parameter, before),
                None => self.bound.remove(&parameter),
            };
        }
        agrees
    }

    fn bind(&mut self, parameter: &Arc<str>, to: Type) {
        let before = self.bound.insert(parameter.clone(), to);
        self.trail.push((parameter.clone(), before));
    }

    fn assignable_all(&mut self, from: &[Type], to: &[Type]) -> bool {
        from.len() == to.len() && from.iter().zip(to).all(|(from, to)| self.assignable(from, to))
    }

    fn assignable(&mut self, from: &Type, to: &Type) -> bool {
        if let Type::Param(parameter) = to {
            match self.substitutes(from, parameter, to) {
                Substitution::Agrees => return true,
                Substitution::Refused => return false,
                Substitution::Unbound => {}
            }
        }
        if let Type::Param(parameter) = from {
            return matches!(self.substitutes(to, parameter, from), Substitution::Agrees);
        }
        if from.is_dyn() || from.is_error() || to.is_dyn() || to.is_error() {
            return true;
        }
        match (from, to) {
            (Type::Null, other) | (other, Type::Null) => {
                use Type::{Duration, Null, Object, Opaque, Timestamp};
                matches!(other, Null | Object(_) | Opaque(..) | Timestamp | Duration)
            }
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(from), Type::List(to)) => self.assignable(from, to),
            (Type::Map(from), Type::Map(to)) => {
                self.assignable(&from.0, &to.0) && self.assignable(&from.1, &to.1)
            }
            (Type::Opaque(name, from), Type::Opaque(other, to)) => {
                name == other && self.assignable_all(from, to)
            }
            _ => from == to,
        }
    }

    /// Whether a type may take the place of a parameter.
    fn substitutes(&mut self, from: &Type, parameter: &Arc<str>, as_type: &Type) -> Substitution {
        if from == as_type {
            return Substitution::Agrees;
        }
        if let Some(bound) = self.bound.get(parameter).cloned() {
            if *from == bound {
                return Substitution::Agrees;
            }
            if !self.assignable(from, &bound) {
                return Substitution::Refused;
            }
            let general = if is_as_general(from, &bound) { from.clone() } else { bound };
            if !self.occurs(parameter, &general) {
                self.bind(parameter, general);
            }
            return Substitution::Agrees;
        }
        if self.occurs(parameter, from) {
            return Substitution::Unbound;
        }
        self.bind(parameter, from.clone());
        Substitution::Agrees
    }

    /// Whether a parameter stands in a type, itself or in what the type's own parameters are bound to.
    fn occurs(&self, parameter: &Arc<str>, within: &Type) -> bool {
        match within {
            Type::Param(other) => {
                other == parameter || self.bound.get(other).is_some_and(|bound| self.occurs(parameter, bound))
            }
            Type::List(of) | Type::Type(Some(of)) => self.occurs(parameter, of),
            Type::Map(of) => self.occurs(parameter, &of.0) || self.occurs(parameter, &of.1),
            Type::Opaque(_, of) => of.iter().any(|of| self.occurs(parameter, of)),
            _ => false,
        }
    }

    /// The type with what its parameters are bound to. With `or_dyn`, free parameters become dynamic.
    pub fn resolve(&self, of: &Type, or_dyn: bool) -> Type {
        match of {
            Type::Param(parameter) => match self.bound.get(parameter) {
                Some(bound) => self.resolve(bound, or_dyn),
                None if or_dyn => Type::Dyn,
                None => of.clone(),
            },
            Type::List(element) => Type::list(self.resolve(element, or_dyn)),
            Type::Map(types) => Type::map(self.resolve(&types.0, or_dyn), self.resolve(&types.1, or_dyn)),
            Type::Type(Some(of)) => Type::type_of(self.resolve(of, or_dyn)),
            Type::Opaque(name, of) if !of.is_empty() => {
                Type::Opaque(name.clone(), of.iter().map(|of| self.resolve(of, or_dyn)).collect())
            }
            _ => of.clone(),
        }
    }
}

enum Substitution {
    Agrees,
    /// The parameter is bound to a type that does not agree.
    Refused,
    /// The parameter is free and cannot be bound to a type that contains it.
    Unbound,
}

/// The more general one of two types that agree.
pub(super) fn most_general(one: &Type, other: &Type) -> Type {
    if is_as_general(one, other) { one.clone() } else { other.clone() }
}

fn is_as_general(one: &Type, other: &Type) -> bool {
    if one.is_dyn() || matches!(one, Type::Param(_)) {
        return true;
    }
    if other.is_dyn() || matches!(other, Type::Param(_)) {
        return false;
    }
    match (one, other) {
        (Type::List(one), Type::List(other)) => is_as_general(one, other),
        (Type::Map(one), Type::Map(other)) => {
            is_as_general(&one.0, &other.0) && is_as_general(&one.1, &other.1)
        }
        (Type::Opaque(name, one), Type::Opaque(other_name, other)) => {
            name == other_name
                && one.len() == other.len()
                && one.iter().zip(other.iter()).all(|(one, other)| is_as_general(one, other))
        }
        (Type::Type(_), Type::Type(_)) => true,
        _ => one == other,
    }
}

/// The type with new variables in the place of an overload's parameters, which are listed with their variables.
pub(super) fn instantiate(of: &Type, names: &mut Vec<(Arc<str>, Type)>, variables: &mut u32) -> Type {
    match of {
        Type::Param(name) => match names.iter().find(|(known, _)| known == name) {
            Some((_, variable)) => variable.clone(),
            None => {
                let variable = Type::param(&format!("_var{variables}"));
                *variables += 1;
                names.push((name.clone(), variable.clone()));
                variable
            }
        },
        Type::List(element) => Type::list(instantiate(element, names, variables)),
        Type::Map(types) => {
            Type::map(instantiate(&types.0, names, variables), instantiate(&types.1, names, variables))
        }
        Type::Type(Some(of)) => Type::type_of(instantiate(of, names, variables)),
        Type::Opaque(name, of) if !of.is_empty() => {
            Type::Opaque(name.clone(), of.iter().map(|of| instantiate(of, names, variables)).collect())
        }
        _ => of.clone(),
    }
}
