//! One call to one agent, which carries orders to its vantage and brings what that says.

use probes::vantage::{Order, Said};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use wire::{PROTOCOL, VantageReply, VantageRequest};

use super::Heard;
use crate::agents::{Agent, CALL_TIMEOUT};

/// Orders that wait for the network: there are four in a drill.
const ORDERS: usize = 8;
/// A line of a vantage that is longer than this is none.
const LINE_MAX: usize = 16 << 20;

/// Dropping it ends the vantage.
pub struct Link {
    pub agent: Agent,
    orders: mpsc::Sender<VantageRequest>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Link {
    /// The call is made when the first order is given.
    pub fn open(index: usize, agent: Agent, heard: mpsc::Sender<Heard>) -> Self {
        let (orders, outgoing) = mpsc::channel(ORDERS);
        let mut client = agent.client.clone();
        let reader = tokio::spawn(async move {
            let call = client.vantage(ReceiverStream::new(outgoing));
            let why = match timeout(CALL_TIMEOUT, call).await {
                Ok(Ok(response)) => listen(index, response.into_inner(), &heard).await,
                Ok(Err(status)) => status.message().to_string(),
                Err(_) => "no answer".to_string(),
            };
            // Nobody wants to know any more when the drill is over.
            let _ = heard.send(Heard::Lost(index, why)).await;
        });
        Self {
            agent,
            orders,
            reader,
        }
    }

    pub fn order(&self, order: &Order) -> Result<(), String> {
        let mut input = serde_json::to_vec(order).map_err(|error| error.to_string())?;
        input.push(b'\n');
        let request = VantageRequest {
            protocol: PROTOCOL,
            input,
        };
        let sent = self.orders.try_send(request);
        sent.map_err(|_| "it takes no orders".to_string())
    }
}

/// Until nothing more comes, and why.
async fn listen(
    index: usize,
    mut replies: Streaming<VantageReply>,
    heard: &mpsc::Sender<Heard>,
) -> String {
    let mut lines = Lines::default();
    loop {
        match replies.message().await {
            Ok(Some(reply)) => {
                for said in lines.take(&reply.output) {
                    let said = match said {
                        Ok(said) => Heard::Said(index, said),
                        Err(why) => return why,
                    };
                    if heard.send(said).await.is_err() {
                        return "nobody listens".to_string();
                    }
                }
            }
            Ok(None) => return "it ended".to_string(),
            Err(status) => return status.message().to_string(),
        }
    }
}

/// Bytes as they come, to lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Vec<Result<Said, String>> {
        let mut whole = Vec::new();
        for byte in bytes {
            self.0.push(*byte);
            if *byte == b'\n' {
                let said = serde_json::from_slice(&self.0);
                whole.push(said.map_err(|error| format!("it said what is no line: {error}")));
                self.0.clear();
            } else if self.0.len() > LINE_MAX {
                whole.push(Err("it said a line without an end".to_string()));
                self.0.clear();
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_are_cut() {
        let text = b"\"ready\"\n\"ready\"\n{\"sung\":1}\n";
        for cut in 1..text.len() {
            let mut lines = Lines::default();
            let said: Vec<_> = text
                .chunks(cut)
                .flat_map(|chunk| lines.take(chunk))
                .collect();
            assert_eq!(said.len(), 3, "{cut}");
            assert_eq!(said[0], Ok(Said::Ready));
            assert!(said[2].as_ref().unwrap_err().contains("sung"));
        }
    }
}
