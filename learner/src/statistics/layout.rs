//! Byte layout of class statistics.
//!
//! With one occasion and no views the layout is the older one: `count`, `mean` of shape `[d]`,
//! `scatter`. Otherwise the shape of the mean is `[1, d]`, and occasions and views follow the
//! scatter.

use fmlora_models::HalfTensor;
use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ClassStatistics, Occasion, ScatterFactor};

impl Serialize for ClassStatistics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let detailed = !self.occasions.is_empty() || self.views.rank() > 0;
        let mut tuple = serializer.serialize_tuple(if detailed { 5 } else { 3 })?;
        tuple.serialize_element(&self.count)?;
        if detailed {
            let as_row = self.mean.reshaped(&[1, self.d_feature()]);
            tuple.serialize_element(&as_row.map_err(serde::ser::Error::custom)?)?;
            tuple.serialize_element(&self.scatter)?;
            tuple.serialize_element(&self.occasions)?;
            tuple.serialize_element(&self.views)?;
        } else {
            tuple.serialize_element(&self.mean)?;
            tuple.serialize_element(&self.scatter)?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for ClassStatistics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(5, Parts)
    }
}

struct Parts;

#[derive(Deserialize)]
struct Mean(#[serde(deserialize_with = "HalfTensor::owned")] HalfTensor<'static>);

impl<'de> Visitor<'de> for Parts {
    type Value = ClassStatistics;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("count, mean and scatter of a class")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<ClassStatistics, A::Error> {
        let missing = |place| A::Error::invalid_length(place, &self);
        let count: u32 = sequence.next_element()?.ok_or_else(|| missing(0))?;
        let Mean(mean) = sequence.next_element()?.ok_or_else(|| missing(1))?;
        let scatter: ScatterFactor = sequence.next_element()?.ok_or_else(|| missing(2))?;
        let [1, d] = mean.shape()[..] else {
            let views = ScatterFactor::empty(scatter.d_feature());
            return Ok(ClassStatistics { count, mean, scatter, occasions: Vec::new(), views });
        };
        let occasions: Vec<Occasion> = sequence.next_element()?.ok_or_else(|| missing(3))?;
        let views: ScatterFactor = sequence.next_element()?.ok_or_else(|| missing(4))?;
        let mean = mean.reshaped(&[d]).map_err(A::Error::custom)?;
        Ok(ClassStatistics { count, mean, scatter, occasions, views })
    }
}
