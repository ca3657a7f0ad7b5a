//! Reading what another party wrote, within limits: one MessagePack value and nothing after it, and
//! lists, texts and numbers no larger than their field allows.
//!
//! A length that a message announces is never believed: memory grows with the bytes that are there.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

/// Deepest nesting that is followed. Ours are at most nine deep; a reader skips fields that it does
/// not know, which may be deeper.
const DEPTH_MAX: usize = 64;
/// Longest time that is believed, in milliseconds: a year.
const MILLISECONDS_MAX: f64 = 365.0 * 24.0 * 3_600.0 * 1_000.0;
/// Longest text for people that is kept, in bytes; the rest is cut off.
const WORDS_BYTES_MAX: usize = 16 << 10;

/// Reads the one value that `bytes` are.
///
/// # Errors
/// When they are another shape, nested too deeply, or more than one value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    let mut reader = rmp_serde::Deserializer::new(bytes);
    reader.set_max_depth(DEPTH_MAX);
    let value = T::deserialize(&mut reader)?;
    match reader.into_inner().len() {
        0 => Ok(value),
        rest => Err(Error::custom(format_args!("{rest} bytes follow the value, wanted none"))),
    }
}

/// For `deserialize_with`: a list of at most `MAX` items.
pub(super) fn list<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct List<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == MAX {
                    return Err(de::Error::invalid_length(MAX + 1, &self));
                }
                list.push(item);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(List::<T, MAX>(PhantomData))
}

/// For `deserialize_with`: a table of at most `MAX` entries, each key once.
pub(super) fn table<'de, D, K, V, const MAX: usize>(
    deserializer: D,
) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    struct Table<K, V, const MAX: usize>(PhantomData<(K, V)>);

    impl<'de, K, V, const MAX: usize> Visitor<'de> for Table<K, V, MAX>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
    {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a table of at most {MAX}, each key once")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut table = BTreeMap::new();
            while let Some((key, value)) = items.next_entry()? {
                if table.len() == MAX {
                    return Err(de::Error::invalid_length(MAX + 1, &self));
                }
                if table.insert(key, value).is_some() {
                    return Err(de::Error::custom("a key comes twice"));
                }
            }
            Ok(table)
        }
    }

    deserializer.deserialize_map(Table::<K, V, MAX>(PhantomData))
}

/// For `deserialize_with`: words for people, cut where they become too long.
pub(super) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(cut)
}

/// For `deserialize_with`, and with `default`: [`words`], or none.
pub(super) fn words_if_any<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map(cut))
}

fn cut(mut text: String) -> String {
    if let Some(end) = (0..=WORDS_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)) {
        text.truncate(end);
    }
    text
}

/// For `deserialize_with`: a time in milliseconds, not negative, and a number at all.
pub(super) fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let time = f64::deserialize(deserializer)?;
    if (0.0..=MILLISECONDS_MAX).contains(&time) {
        Ok(time)
    } else {
        Err(de::Error::custom(format_args!(
            "`{time}` ms is no time: wanted 0 to {MILLISECONDS_MAX}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Message {
        #[serde(deserialize_with = "list::<_, _, 2>")]
        list: Vec<u8>,
        #[serde(deserialize_with = "table::<_, _, _, 2>")]
        table: BTreeMap<u8, u8>,
        #[serde(deserialize_with = "words")]
        words: String,
        #[serde(deserialize_with = "milliseconds")]
        time: f64,
    }

    fn read(message: &Message) -> Result<Message, rmp_serde::decode::Error> {
        decode(&rmp_serde::to_vec_named(message).unwrap())
    }

    #[test]
    fn what_is_larger_than_its_field_is_refused() {
        let message =
            Message { list: vec![1, 2], table: [(1, 1), (2, 2)].into(), ..Message::default() };
        assert_eq!(read(&message).unwrap(), message);
        let long = Message { list: vec![0; 3], ..Message::default() };
        assert!(read(&long).unwrap_err().to_string().contains("at most 2"));
        let large = Message { table: [(1, 1), (2, 2), (3, 3)].into(), ..Message::default() };
        assert!(read(&large).unwrap_err().to_string().contains("at most 2"));
        for time in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            assert!(read(&Message { time, ..Message::default() }).is_err(), "{time}");
        }
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        // A map of two entries, both with the key 1, where `Message` has its table.
        let bytes = [0x94, 0x90, 0x82, 1, 1, 1, 2, 0xa0, 0xca, 0, 0, 0, 0];
        let refused = decode::<Message>(&bytes).unwrap_err();
        assert!(refused.to_string().contains("twice"), "{refused}");
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let words = format!("x{}", "é".repeat(WORDS_BYTES_MAX));
        let cut = read(&Message { words, ..Message::default() }).unwrap().words;
        assert_eq!(cut.len(), WORDS_BYTES_MAX - 1);
    }

    #[test]
    fn neither_announced_lengths_nor_depth_nor_a_second_value_are_believed() {
        // Four billion items, four billion bytes, and nothing behind.
        assert!(decode::<Vec<Vec<u8>>>(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(decode::<String>(&[0xdb, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(decode::<serde_json::Value>(&vec![0x91; 1 << 20]).is_err());
        assert_eq!(decode::<u8>(&[7]).unwrap(), 7);
        assert!(decode::<u8>(&[7, 7]).unwrap_err().to_string().contains("1 bytes follow"));
    }
}
