//! Work on keys that is cut off at any point: whatever was done, everything is readable.

use std::time::Duration;

use okmsd::{crypto::RootKey, service::OtherRootKey};
use tokio::time::timeout;

use super::{everything, with_a_bit_of_everything};
use crate::support::{Server, both_engines};

both_engines!(work_on_keys_dropped_at_any_point_loses_nothing);

/// On each engine; the program itself is killed in the tests of the command line.
const TIMES: u64 = 50;

async fn work_on_keys_dropped_at_any_point_loses_nothing(mut server: Server) {
    let domain = with_a_bit_of_everything(&server).await;
    let before = everything(&server, &domain).await;
    server.stop().await;
    let (mut random, mut cut) = (0x9e37_79b9_7f4a_7c15_u64, 0);
    for time in 0..TIMES {
        // xorshift: the same on every run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let limit = Duration::from_micros(random % 20_000);
        let keys = server.keys_of().await;
        let ended = match time % 3 {
            0 => timeout(limit / 8, keys.rotate_domain(domain.okms_id)).await.is_ok(),
            1 => timeout(limit, keys.rewrap(domain.okms_id, |_| ())).await.is_ok(),
            _ => {
                let new = RootKey::generate().expect("randomness");
                let work = keys.rotate_root(&new, &OtherRootKey::None);
                let ended = timeout(limit / 8, work).await.is_ok();
                // As its file would: the one that the store knows counts.
                if keys.is_registered(new.id()).await.expect("storage works") {
                    server.root_key = new.to_text().to_string();
                } else if !ended {
                    // It may still be under way in the database; it is decided once this is answered.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    if keys.is_registered(new.id()).await.expect("storage works") {
                        server.root_key = new.to_text().to_string();
                    }
                }
                ended
            }
        };
        cut += u64::from(!ended);
        drop(keys);
        if time % 5 == 4 || time == TIMES - 1 {
            let mut again = server.another().await;
            assert_eq!(everything(&again, &domain).await, before, "after {time}");
            again.stop().await;
        } else {
            // Each key and each root key opens, or this fails.
            server.keys_of().await;
        }
    }
    assert!(cut > TIMES / 5, "{cut} of {TIMES} were cut off");
    let keys = server.keys_of().await;
    let report = keys.rewrap(domain.okms_id, |_| ()).await.expect("storage works");
    assert!(!report.pending && report.refused.is_empty(), "{report:?}");
    assert_eq!(server.database.number(super::KEYS).await, 1);
    let mut again = server.another().await;
    assert_eq!(everything(&again, &domain).await, before);
    again.stop().await;
}
