//! Ranks that are threads of one process. Tests use them to run the code of several ranks without a
//! launcher.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use crate::{Collective, Error, Result};

/// A rank that is a thread.
pub struct ThreadRank {
    rank: usize,
    links: Vec<Link>,
}

/// The ends of the channels to and from a rank.
type Link = Mutex<(Sender<Message>, Receiver<Message>)>;

enum Message {
    Numbers(Vec<f32>),
    Bytes(Vec<u8>),
}

/// Calls `work` in `size` threads, each of which is a rank, and returns their results in the order
/// of the ranks.
///
/// # Panics
/// When `work` panics.
pub fn run<T: Send>(size: usize, work: impl Fn(Arc<ThreadRank>) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> =
            group(size).into_iter().map(|rank| scope.spawn(move || work(Arc::new(rank)))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Returns ranks that have a link to each other and to themselves.
fn group(size: usize) -> Vec<ThreadRank> {
    let mut ranks: Vec<ThreadRank> =
        (0..size).map(|rank| ThreadRank { rank, links: Vec::with_capacity(size) }).collect();
    // The ends that a later rank takes, in the order in which it takes them.
    let mut waiting: Vec<Vec<Link>> = (0..size).map(|_| Vec::new()).collect();
    for a in 0..size {
        ranks[a].links.append(&mut waiting[a]);
        let (sender, receiver) = channel();
        ranks[a].links.push(Mutex::new((sender, receiver)));
        for waiting in &mut waiting[a + 1..] {
            let (to_a, from_b) = channel();
            let (to_b, from_a) = channel();
            ranks[a].links.push(Mutex::new((to_b, from_b)));
            waiting.push(Mutex::new((to_a, from_a)));
        }
    }
    ranks
}

impl ThreadRank {
    fn send(&self, to: usize, message: Message) -> Result<()> {
        let link = self.links[to].lock().unwrap_or_else(PoisonError::into_inner);
        link.0.send(message).map_err(|_| Error::Ranks(format!("rank {to} has ended")))
    }

    fn receive(&self, from: usize) -> Result<Message> {
        let link = self.links[from].lock().unwrap_or_else(PoisonError::into_inner);
        link.1.recv().map_err(|_| Error::Ranks(format!("rank {from} has ended")))
    }
}

fn out_of_step(rank: usize) -> Error {
    Error::Ranks(format!("rank {rank} has called another function"))
}

impl Collective for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.links.len()
    }

    fn name(&self) -> String {
        format!("rank {} of {}", self.rank, self.size())
    }

    fn exchange(&self, with: usize, send: &[f32], receive: &mut [f32]) -> Result<()> {
        self.send(with, Message::Numbers(send.to_vec()))?;
        match self.receive(with)? {
            Message::Numbers(numbers) if numbers.len() == receive.len() => {
                receive.copy_from_slice(&numbers);
                Ok(())
            }
            _ => Err(out_of_step(with)),
        }
    }

    fn gather_bytes(&self, message: &[u8]) -> Result<Vec<Vec<u8>>> {
        (0..self.size()).try_for_each(|to| self.send(to, Message::Bytes(message.to_vec())))?;
        let receive = |from| match self.receive(from)? {
            Message::Bytes(bytes) => Ok(bytes),
            Message::Numbers(_) => Err(out_of_step(from)),
        };
        (0..self.size()).map(receive).collect()
    }
}
