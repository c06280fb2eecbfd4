//! The messages of an event file, as far as they are written here.
//!
//! Names and numbers of the fields are those of `event.proto`, `summary.proto` and `tensor.proto` in TensorBoard,
//! <https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto>. What is not declared is skipped
//! when it is read.

/// What happened at one step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// When it happened, in seconds since the beginning of 1970, UTC.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// The step. Signed in TensorBoard, which is the same in the file for all that it can show.
    #[prost(uint64, tag = "2")]
    pub step: u64,
    /// What happened, if it is of a kind that is known here.
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
}

/// The kinds of events.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum What {
    /// The first event of a file: its format.
    #[prost(string, tag = "3")]
    FileVersion(String),
    /// Something to show.
    #[prost(message, tag = "5")]
    Summary(Summary),
    /// A session began.
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// Values of one step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Summary {
    /// The values; one in each event that is written here.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<SummaryValue>,
}

/// A value and what it is called.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SummaryValue {
    /// The name of the series. What stands before its first `/` is the group that it is shown in.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// How it is to be shown; a scalar needs none.
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<SummaryMetadata>,
    /// The value, if it is of a kind that is known here.
    #[prost(oneof = "Value", tags = "2, 8")]
    pub value: Option<Value>,
}

/// The kinds of values.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    /// A scalar.
    #[prost(float, tag = "2")]
    Scalar(f32),
    /// Anything else, of which texts are written here.
    #[prost(message, tag = "8")]
    Tensor(Tensor),
}

/// How a value is to be shown.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SummaryMetadata {
    /// What shows it.
    #[prost(message, optional, tag = "1")]
    pub plugin_data: Option<PluginData>,
}

/// The part of TensorBoard that shows a value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginData {
    /// Its name, such as `text`.
    #[prost(string, tag = "1")]
    pub plugin_name: String,
}

/// An array of strings.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tensor {
    /// The type of the elements: [`Tensor::STRING`].
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    /// The shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
    /// The elements.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub strings: Vec<Vec<u8>>,
}

impl Tensor {
    /// The number of the type of strings, `DT_STRING`.
    pub const STRING: i32 = 7;
}

/// The shape of a single element: no dimensions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorShape {}

/// The beginning of a session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionLog {
    /// What the session did: [`SessionLog::START`].
    #[prost(int32, tag = "1")]
    pub status: i32,
}

impl SessionLog {
    /// It began. If it was not the first of the run, TensorBoard drops what it has read of the event's step and of
    /// those beyond it.
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

    /// The tag and the text, if the event is one.
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
