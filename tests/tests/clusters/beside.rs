//! Our tables beside kube-proxy's: neither touches the other.

use crate::line::seen;

pub fn kube_proxy() {
    let [before, during, after] = &seen().tables;
    assert!(
        before.kube_proxy.contains("198.51.100.11"),
        "{}",
        before.kube_proxy
    );
    assert!(!before.names.contains("cellwall_"), "{}", before.names);
    assert!(during.names.contains("cellwall_"), "{}", during.names);
    assert_eq!(before.kube_proxy, during.kube_proxy);
    assert_eq!(before.kube_proxy, after.kube_proxy);
    assert_eq!(before.names, after.names);
}
