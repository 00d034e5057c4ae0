//! `t` and `sign` of a body, as its receiver finds them; and where they stand, for a value that is signed without being delivered.

use super::super::body::Cuts;
use super::fields::{self, Role};
use super::scan::{self, Member, Token};
use super::{DecodeError, malformed};

/// A member that is expected once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// It is not there.
    Absent,
    /// It is there once, and of the type that it should have.
    Once(T),
    /// It is there once, and of another type.
    WrongType,
    /// It is there more than once: two parsers could read two values.
    Repeated,
}

/// The top-level `t` and `sign` of a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// `t`, a whole number of Unix seconds as decimal digits.
    pub t: Found<i64>,
    /// `sign`, a text.
    pub sign: Found<String>,
    /// Where they stand.
    pub cuts: Cuts,
}

/// Finds `t` and `sign` in `value`; names are compared after unescaping. Nothing else is asked of it but that it is a JSON object.
///
/// # Errors
/// When it is none.
pub fn sealed(value: &[u8]) -> Result<Sealed, DecodeError> {
    let mut sealed = Sealed { t: Found::Absent, sign: Found::Absent, cuts: Cuts::default() };
    scan::object(value, |member| {
        if fields::role(member.name) == Role::Seal {
            sealed.cuts.member(value, member.start, member.delimiter);
            if member.name.resolve().as_deref() == Some("t") {
                sealed.t.add(seconds(member));
            } else {
                sealed.sign.add(text(member));
            }
        }
    })
    .map_err(|fault| malformed(value, fault))?;
    Ok(sealed)
}

impl<T> Found<T> {
    fn add(&mut self, value: Option<T>) {
        *self = match (&self, value) {
            (Self::Absent, Some(value)) => Self::Once(value),
            (Self::Absent, None) => Self::WrongType,
            (Self::Once(_) | Self::WrongType | Self::Repeated, _) => Self::Repeated,
        };
    }
}

fn seconds(member: Member<'_>) -> Option<i64> {
    match member.value {
        Token::Number(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
        Token::Null | Token::Text(_) | Token::Other => None,
    }
}

fn text(member: Member<'_>) -> Option<String> {
    match member.value {
        Token::Text(text) => text.resolve().map(std::borrow::Cow::into_owned),
        Token::Null | Token::Number(_) | Token::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_and_sign_are_found_whatever_else_the_object_holds() {
        use Found::{Absent, Once, Repeated, WrongType};
        let sign = || Once("ab".to_owned());
        for (value, t, found_sign) in [
            (r#"{}"#, Absent, Absent),
            (r#"{"x":{"t":1,"sign":"ab"}}"#, Absent, Absent),
            (r#"{"t":1,"sign":"ab"}"#, Once(1), sign()),
            (r#"{"\u0074":-1,"si\u0067n":"a\u0062"}"#, Once(-1), sign()),
            (r#"{"t":1}"#, Once(1), Absent),
            (r#"{"t":"1","sign":2}"#, WrongType, WrongType),
            (r#"{"t":1.0,"sign":null}"#, WrongType, WrongType),
            (r#"{"t":99999999999999999999,"sign":"\ud800"}"#, WrongType, WrongType),
            (r#"{"t":1,"t":1,"sign":"ab","sign":"ab"}"#, Repeated, Repeated),
            (r#"{"t":null,"t":1,"sign":"ab"}"#, Repeated, sign()),
            (r#"{"T":1,"Sign":"ab"}"#, Absent, Absent),
        ] {
            let sealed = sealed(value.as_bytes()).expect("an object");
            assert_eq!((sealed.t, sealed.sign), (t, found_sign), "{value}");
        }
    }

    #[test]
    fn what_is_no_object_says_where_it_stops_being_one() {
        for (value, said) in [("", "empty"), ("[1]", "not an object"), (r#"{"a":1"#, "not JSON at byte 6"), ("{} x", "more after")] {
            let error = sealed(value.as_bytes()).expect_err(value);
            assert!(error.detail.contains(said), "{value}: {error}");
        }
    }
}
