//! The price in a ConfigMap of the own cluster, followed by a watch; the last good one is kept.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::watch::Sender;

use crate::ShopError;
use crate::pricing::{MapName, Price};

/// The key in the map, in cents.
const KEY: &str = "price";
/// Between attempts to watch: short, so that a changed price is seen within seconds even after an
/// outage of the API server.
const PAUSE: Duration = Duration::from_secs(2);

/// Follows the map for ever. Nothing that happens to it or to its API server takes a price away.
pub async fn follow(map: &MapName, told: &Sender<Option<Price>>) -> ShopError {
    let client = match Client::try_default().await {
        Ok(client) => client,
        Err(error) => return ShopError::Cluster(error.to_string()),
    };
    let maps: Api<ConfigMap> = Api::namespaced(client, &map.namespace);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", map.name));
    let mut events = pin!(watcher::watcher(maps, only));
    // The watcher itself never ends; it tells every failure and then tries again when asked.
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(map) | Event::InitApply(map)) => take(&map, told),
            Ok(Event::Delete(_)) => tracing::warn!("the price's map is gone; the last one stays"),
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => {
                tracing::warn!("cannot watch the price, the last one stays: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    ShopError::Cluster("the watch ended".to_owned())
}

fn take(map: &ConfigMap, told: &Sender<Option<Price>>) {
    match read(map) {
        Ok(price) => {
            told.send_replace(Some(price));
        }
        Err(why) => tracing::warn!("a bad price, the last one stays: {why}"),
    }
}

fn read(map: &ConfigMap) -> Result<Price, String> {
    let text = map.data.as_ref().and_then(|data| data.get(KEY));
    let text = text.ok_or_else(|| format!("the map has no `{KEY}`"))?;
    let price = text.trim().parse();
    let price = price.map_err(|_| format!("`{text}` is no number of cents"))?;
    Ok(Price { price })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(key: &str, value: &str) -> ConfigMap {
        ConfigMap {
            data: Some([(key.to_owned(), value.to_owned())].into()),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn what_is_no_price_leaves_the_last_one() {
        let (told, price) = tokio::sync::watch::channel(None);
        take(&map("price", "nothing"), &told);
        assert_eq!(*price.borrow(), None);
        take(&map("price", " 99\n"), &told);
        assert_eq!(*price.borrow(), Some(Price { price: 99 }));
        for (key, value) in [("price", ""), ("price", "-1"), ("cost", "7")] {
            take(&map(key, value), &told);
            assert_eq!(*price.borrow(), Some(Price { price: 99 }));
        }
    }
}
