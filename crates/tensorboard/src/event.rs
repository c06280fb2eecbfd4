//! The protobuf messages of an event file, limited to the fields that this crate writes.
//!
//! Field names and numbers are those of `event.proto`, `summary.proto` and `tensor.proto` in TensorBoard,
//! <https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto>. Other fields are skipped when
//! reading.

/// An event at one step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// Unix time in seconds.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// The training step. Signed in TensorBoard, with the same encoding for values that are not negative.
    #[prost(uint64, tag = "2")]
    pub step: u64,
    /// None for kinds that are not declared here.
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
}

/// The kinds of events.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum What {
    /// The format version, as the first event of a file.
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// The values of one step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Summary {
    /// Events written by this crate have one value.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<SummaryValue>,
}

/// A value with its tag.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SummaryValue {
    /// Name of the series. The part before the first `/` is its group.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// Display metadata; scalars need none.
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<SummaryMetadata>,
    /// None for kinds that are not declared here.
    #[prost(oneof = "Value", tags = "2, 8")]
    pub value: Option<Value>,
}

/// The kinds of values.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    #[prost(float, tag = "2")]
    Scalar(f32),
    /// Other kinds; this crate writes texts.
    #[prost(message, tag = "8")]
    Tensor(Tensor),
}

/// Display metadata of a value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    pub plugin_data: Option<PluginData>,
}

/// The TensorBoard plugin that displays a value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginData {
    /// Such as `text`.
    #[prost(string, tag = "1")]
    pub plugin_name: String,
}

/// An array of strings.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tensor {
    /// Element type: [`Tensor::STRING`].
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub strings: Vec<Vec<u8>>,
}

impl Tensor {
    /// `DT_STRING`.
    pub const STRING: i32 = 7;
}

/// The shape of a scalar tensor, without dimensions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorShape {}

/// Marks the start of a session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionLog {
    /// [`SessionLog::START`].
    #[prost(int32, tag = "1")]
    pub status: i32,
}

impl SessionLog {
    /// The session starts. In all but the first session of a run, TensorBoard drops earlier events at the event's step
    /// or later.
    pub const START: i32 = 1;
}

impl Event {
    /// The tag and the value, if the event is a scalar.
    pub fn scalar(&self) -> Option<(&str, f32)> {
        match self.summary_value()? {
            SummaryValue { tag, value: Some(Value::Scalar(value)), .. } => Some((tag, *value)),
            _ => None,
        }
    }

    /// The tag and the text, if the event is a text.
    pub fn text(&self) -> Option<(&str, &str)> {
        match self.summary_value()? {
            SummaryValue { tag, value: Some(Value::Tensor(Tensor { strings, .. })), .. } => {
                let [text] = strings.as_slice() else { return None };
                Some((tag, str::from_utf8(text).ok()?))
            }
            _ => None,
        }
    }

    fn summary_value(&self) -> Option<&SummaryValue> {
        match &self.what {
            Some(What::Summary(Summary { values })) => values.first(),
            _ => None,
        }
    }
}
