//! The price in a ConfigMap of the own cluster, followed by a watch; the last good one is kept.

use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::watch::Sender;

use crate::ShopError;

/// The key in the map, in cents.
const KEY: &str = "price";
/// Between attempts to watch: short, so that a changed price is seen within seconds even after an
/// outage of the API server.
const PAUSE: Duration = Duration::from_secs(2);

/// Which ConfigMap.
#[derive(Clone, Debug)]
pub struct MapName {
    pub namespace: String,
    pub name: String,
}

impl FromStr for MapName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err("expected NAMESPACE/NAME".to_owned()),
        }
    }
}

/// Follows the map for ever, and tells the price in cents. Nothing that happens to it or to its API server takes a price away.
pub async fn follow(map: &MapName, told: &Sender<Option<u64>>) -> ShopError {
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

fn take(map: &ConfigMap, told: &Sender<Option<u64>>) {
    match read(map) {
        Ok(price) => {
            told.send_replace(Some(price));
        }
        Err(why) => tracing::warn!("a bad price, the last one stays: {why}"),
    }
}

fn read(map: &ConfigMap) -> Result<u64, String> {
    let text = map.data.as_ref().and_then(|data| data.get(KEY));
    let text = text.ok_or_else(|| format!("the map has no `{KEY}`"))?;
    let price = text.trim().parse();
    price.map_err(|_| format!("`{text}` is no number of cents"))
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
    fn a_map_is_named_by_two_words() {
        let name: MapName = "shop/pricing".parse().unwrap();
        assert_eq!(
            (name.namespace.as_str(), name.name.as_str()),
            ("shop", "pricing")
        );
        for wrong in ["shop", "/pricing", "shop/"] {
            assert!(wrong.parse::<MapName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_price_leaves_the_last_one() {
        let (told, price) = tokio::sync::watch::channel(None);
        take(&map("price", "nothing"), &told);
        assert_eq!(*price.borrow(), None);
        take(&map("price", " 99\n"), &told);
        assert_eq!(*price.borrow(), Some(99));
        for (key, value) in [("price", ""), ("price", "-1"), ("cost", "7")] {
            take(&map(key, value), &told);
            assert_eq!(*price.borrow(), Some(99));
        }
    }
}
