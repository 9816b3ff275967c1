//! Bridges, links, addresses and routes by rtnetlink, one connection for each namespace.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use netlink_packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use super::namespaces::Namespaces;
use crate::error::{Error, Result};
use crate::layout::{ETH0, Host, Layout, Route, Segment};

/// Index of the loopback interface in every namespace.
const LOOPBACK: u32 = 1;

/// Builds every segment of the layout.
pub async fn build(layout: &Layout, namespaces: &Namespaces) -> Result<()> {
    let mut kernels = Kernels::default();
    kernels.up(kernels.open(namespaces, None)?, None).await?;
    for host in layout.hosts() {
        let kernel = kernels.open(namespaces, Some(&host.namespace))?;
        kernels.up(kernel, Some(&host.namespace)).await?;
    }
    for segment in &layout.segments {
        build_segment(segment, namespaces, &kernels).await?;
    }
    // Routers need their own networks before they can know the way to others.
    for host in layout.hosts() {
        let kernel = kernels.get(Some(&host.namespace))?;
        let index = index_of(kernel, ETH0, &host.namespace).await?;
        for route in &host.routes {
            add_route(kernel, index, route, &host.namespace).await?;
        }
    }
    Ok(())
}

/// Netlink handles by namespace; none is the holder's own.
#[derive(Default)]
struct Kernels(BTreeMap<Option<String>, Handle>);

impl Kernels {
    /// The socket is opened on a thread within the namespace; its traffic runs on this one.
    fn open(&self, namespaces: &Namespaces, name: Option<&str>) -> Result<Handle> {
        let runtime = tokio::runtime::Handle::current();
        let (connection, handle, _) = namespaces.within(name, || {
            let _entered = runtime.enter();
            let what = "open a netlink socket";
            rtnetlink::new_connection().map_err(Error::kernel(what))
        })?;
        tokio::spawn(connection);
        Ok(handle)
    }

    async fn up(&mut self, handle: Handle, name: Option<&str>) -> Result<()> {
        let message = LinkUnspec::new_with_index(LOOPBACK).up().build();
        let done = handle.link().set(message).execute().await;
        done.map_err(netlink(format!(
            "set the loopback of {} up",
            name.unwrap_or("the hub")
        )))?;
        self.0.insert(name.map(str::to_string), handle);
        Ok(())
    }

    fn get(&self, name: Option<&str>) -> Result<&Handle> {
        let found = self.0.get(&name.map(str::to_string));
        found.ok_or_else(|| Error::Layout(format!("no namespace is named {name:?}")))
    }
}

fn netlink(what: String) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |source| Error::Netlink { what, source }
}

async fn build_segment(
    segment: &Segment,
    namespaces: &Namespaces,
    kernels: &Kernels,
) -> Result<()> {
    let place = segment.namespace.as_deref();
    let kernel = kernels.get(place)?;
    let named = place.unwrap_or("the hub");
    let bridge = &segment.bridge;
    let done = kernel
        .link()
        .add(LinkBridge::new(bridge).build())
        .execute()
        .await;
    done.map_err(netlink(format!("make the bridge {bridge} in {named}")))?;
    let index = index_of(kernel, bridge, named).await?;
    add_addresses(kernel, index, &segment.addresses, named).await?;
    for host in &segment.hosts {
        let namespace = namespaces.get(&host.namespace)?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(ETH0)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let pair = LinkVeth::new(&host.port, ETH0)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .controller(index)
            .up()
            .build();
        let done = kernel.link().add(pair).execute().await;
        done.map_err(netlink(format!(
            "link {} to {bridge} in {named}",
            host.namespace
        )))?;
        configure(kernels, host).await?;
    }
    Ok(())
}

async fn configure(kernels: &Kernels, host: &Host) -> Result<()> {
    let kernel = kernels.get(Some(&host.namespace))?;
    let index = index_of(kernel, ETH0, &host.namespace).await?;
    // Not in the message that makes the pair: there the peer does not know its other end yet.
    let done = kernel
        .link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await;
    done.map_err(netlink(format!("set {ETH0} of {} up", host.namespace)))?;
    add_addresses(kernel, index, &host.addresses, &host.namespace).await
}

async fn index_of(kernel: &Handle, link: &str, place: &str) -> Result<u32> {
    let mut found = kernel.link().get().match_name(link).execute();
    let message = found
        .try_next()
        .await
        .map_err(netlink(format!("find {link} in {place}")))?;
    let missing = || Error::Layout(format!("{place} has no interface {link}"));
    message
        .map(|message| message.header.index)
        .ok_or_else(missing)
}

async fn add_addresses(kernel: &Handle, index: u32, all: &[IpNet], place: &str) -> Result<()> {
    for net in all {
        let mut request = kernel.address().add(index, net.addr(), net.prefix_len());
        // Without this an IPv6 address is tentative for a moment even where duplicate address
        // detection is off, and until then no route may name it as its source (EINVAL).
        let flags = AddressAttribute::Flags(AddressFlags::Nodad);
        request.message_mut().attributes.push(flags);
        let done = request.execute().await;
        done.map_err(netlink(format!("give {place} the address {net}")))?;
    }
    Ok(())
}

async fn add_route(kernel: &Handle, index: u32, route: &Route, place: &str) -> Result<()> {
    let mut message = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.network(), route.to.prefix_len())
        .map_err(|error| no_route(route, place, error))?
        .gateway(route.via)
        .map_err(|error| no_route(route, place, error))?
        .output_interface(index);
    if let Some(from) = route.from {
        message = message
            .pref_source(from)
            .map_err(|error| no_route(route, place, error))?;
    }
    let done = kernel.route().add(message.build()).execute().await;
    done.map_err(netlink(format!(
        "route {} by {} in {place}",
        route.to, route.via
    )))
}

fn no_route(route: &Route, place: &str, error: impl std::fmt::Display) -> Error {
    Error::Layout(format!(
        "the route of {place} to {} is not one: {error}",
        route.to
    ))
}
