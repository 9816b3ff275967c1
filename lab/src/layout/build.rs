//! From a description of a fleet to the layout of a lab.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{CellLayout, CloudLayout, Host, Layout, NodeLayout, Route, Segment};
use crate::address;
use crate::description::{CellDescription, CloudDescription, Description};
use crate::error::{Error, Result};
use crate::flaw::{self, Flaw};
use crate::kind::{CellKind, Kind, Place};

impl Layout {
    /// Works out everything of a lab, or says why it cannot be built.
    pub fn new(
        name: &str,
        kind: Kind,
        flaws: &[Flaw],
        description: &Description,
        place: &Place,
    ) -> Result<Layout> {
        description.check()?;
        let builder = kind.builder();
        let clouds: Vec<CloudLayout> = description.clouds.iter().map(cloud_layout).collect();
        let mut cells = Vec::new();
        for cell in &description.cells {
            cells.push(cell_layout(description, cell, builder)?);
        }
        flaw::weaken(kind, &clouds, &mut cells, flaws)?;
        let mut services = crate::internet::services(&clouds, &cells, place);
        services
            .extend(flaw::crowd(flaws).map(|crowd| crate::internet::crowd(&cells, crowd, place)));
        let mut layout = Layout {
            name: name.to_string(),
            kind,
            flaws: flaws.to_vec(),
            segments: segments(description, &clouds, &cells, builder),
            services,
            checks: crate::internet::checks(&clouds, &cells),
            clouds,
            cells,
        };
        let hosts: BTreeSet<IpAddr> = layout
            .hosts()
            .flat_map(|host| host.addresses.iter().map(IpNet::addr))
            .collect();
        for cell in &mut layout.cells {
            cell.uses.retain(|_, used| hosts.contains(&used.ip()));
        }
        for index in 0..layout.cells.len() {
            let services = builder.services(&layout, index, place)?;
            layout.services.extend(services);
            layout.checks.extend(builder.checks(&layout.cells[index]));
        }
        Ok(layout)
    }
}

fn cloud_layout(cloud: &CloudDescription) -> CloudLayout {
    CloudLayout {
        name: cloud.name.clone(),
        prefixes: cloud.prefixes.clone(),
        managed_db: cloud
            .lan()
            .map(|lan| address::host(lan, address::MANAGED_DB))
            .to_vec(),
    }
}

fn cell_layout(
    description: &Description,
    cell: &CellDescription,
    builder: &dyn CellKind,
) -> Result<CellLayout> {
    let cloud = description.cloud(&cell.cloud)?;
    let known: Vec<&str> = builder.nodes().iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = cell
        .nodes
        .keys()
        .find(|name| !known.contains(&name.as_str()))
    {
        return Err(Error::Layout(format!(
            "cell `{}` has a node `{unknown}`, and a lab of this kind builds only the nodes {}",
            cell.name,
            known.join(", ")
        )));
    }
    let mut nodes = Vec::new();
    for (name, part) in builder.nodes() {
        let mut public = cloud.lan().map(|lan| address::host(lan, *part));
        let mut agent_port = address::AGENT_PORT;
        if let Some(wanted) = cell.nodes.get(*name) {
            public[usize::from(wanted.address.is_ipv6())] = wanted.address;
            agent_port = wanted.agent_port;
        }
        nodes.push(NodeLayout {
            name: name.to_string(),
            namespace: format!("{name}.{}", cell.name),
            public: public.to_vec(),
            inside: cell.inside.map(|net| address::host(net, *part)).to_vec(),
            agent: SocketAddr::new(public[0], agent_port),
        });
    }
    let entry = builder.entry();
    if let Some(node) = nodes.iter_mut().find(|node| node.name == entry) {
        for wanted in &cell.addresses {
            node.public[usize::from(wanted.is_ipv6())] = *wanted;
        }
        node.agent.set_ip(node.public[0]);
    }
    let layout = CellLayout {
        name: cell.name.clone(),
        cloud: cell.cloud.clone(),
        region: cell.region.clone(),
        addresses: nodes
            .iter()
            .find(|node| node.name == entry)
            .map(|node| node.public.clone())
            .unwrap_or_default(),
        inside: cell.inside.to_vec(),
        nodes,
        uses: cell
            .uses
            .iter()
            .map(|(name, used)| (name.clone(), SocketAddr::new(used.address, used.port)))
            .collect(),
    };
    check_addresses(cloud, &layout)?;
    builder.check(&layout)?;
    Ok(layout)
}

/// Every public address of a cell lies in its cloud's network and is taken once.
fn check_addresses(cloud: &CloudDescription, cell: &CellLayout) -> Result<()> {
    let lan = cloud.lan();
    let mut taken: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for net in lan {
        taken.insert(address::host(net, address::ROUTER), "the router");
        taken.insert(
            address::host(net, address::MANAGED_DB),
            "the managed database",
        );
    }
    for node in &cell.nodes {
        for public in &node.public {
            if !lan.iter().any(|net| net.contains(public)) {
                return Err(Error::Layout(format!(
                    "node `{}` has the address {public}, which is outside of {} and {}, the \
                     networks that the lab builds in cloud `{}`",
                    node.namespace, lan[0], lan[1], cloud.name
                )));
            }
            if let Some(other) = taken.insert(*public, &node.name) {
                return Err(Error::Layout(format!(
                    "node `{}` has the address {public}, which {other} of the same cloud has too",
                    node.namespace
                )));
            }
        }
    }
    Ok(())
}

fn segments(
    description: &Description,
    clouds: &[CloudLayout],
    cells: &[CellLayout],
    builder: &dyn CellKind,
) -> Vec<Segment> {
    let mut all = vec![crate::internet::segment(clouds)];
    for (index, cloud) in description.clouds.iter().enumerate() {
        let lan = cloud.lan();
        let gateways = lan.map(|net| address::host(net, address::ROUTER));
        let database = &clouds[index];
        let mut segment = Segment {
            namespace: Some(crate::internet::router(&cloud.name)),
            bridge: "lan".to_string(),
            addresses: address::in_nets(&gateways, &lan),
            hosts: vec![lan_host(
                database.managed_db_namespace(),
                "managed-db",
                &database.managed_db,
                &lan,
                &gateways,
            )],
        };
        for cell in cells.iter().filter(|cell| cell.cloud == cloud.name) {
            for node in &cell.nodes {
                let mut host = lan_host(
                    node.namespace.clone(),
                    &node.name,
                    &node.public,
                    &lan,
                    &gateways,
                );
                host.addresses
                    .extend(address::in_nets(&node.inside, &cell.inside));
                builder.shape(cell, node, &mut host);
                segment.hosts.push(host);
            }
        }
        all.push(segment);
    }
    all
}

fn lan_host(
    namespace: String,
    name: &str,
    public: &[IpAddr],
    lan: &[IpNet],
    gateways: &[IpAddr],
) -> Host {
    let routes = gateways
        .iter()
        .map(|gateway| Route {
            to: address::everything(*gateway),
            via: *gateway,
            from: public
                .iter()
                .find(|own| own.is_ipv4() == gateway.is_ipv4())
                .copied(),
        })
        .collect();
    Host {
        namespace,
        port: format!("to-{name}"),
        addresses: address::in_nets(public, lan),
        routes,
        forwards: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::LabDirectory;

    fn place() -> Place {
        Place {
            directory: LabDirectory("/nowhere".into()),
            programs: "/bin".into(),
        }
    }

    fn named(flaw: &str) -> Flaw {
        Flaw::named(flaw).unwrap()
    }

    fn fleet(clouds: &str, cells: &str) -> Result<Layout> {
        Ok(describe(clouds, cells)?.1)
    }

    fn describe(clouds: &str, cells: &str) -> Result<(Description, Layout)> {
        describe_kind(Kind::Plain, clouds, cells)
    }

    fn describe_kind(kind: Kind, clouds: &str, cells: &str) -> Result<(Description, Layout)> {
        let text = format!(
            "apiVersion: cellwall.dev/v1\nkind: Fleet\nmetadata: {{ name: own }}\nspec:\n  \
             operator: {{ addresses: [203.0.113.10] }}\n  clouds:\n{clouds}  cells:\n{cells}  \
             probes:\n    home: {{ plane: data, http: {{ url: \"http://{{cell}}/\", expect: {{ \
             status: 200 }} }}, rate: 20/s, timeout: 1s }}\n"
        );
        let fleet = scenarios::read_fleet(&text, "own.yaml").unwrap_or_else(|e| panic!("{e}"));
        let description = Description::of_fleet(&fleet)?;
        let layout = Layout::new("own", kind, &[], &description, &place())?;
        Ok((description, layout))
    }

    const RED: &str = "    red: { prefixes: [100.64.0.0/24, \"2001:db8:aa::/48\"] }\n";

    fn cell(name: &str, node: &str, address: &str) -> String {
        format!(
            "    {name}: {{ cloud: red, region: north, addresses: [100.64.0.99], prefixes: \
             [10.9.0.0/16], nodes: [{{ name: {node}, address: {address}, agent: \
             \"{address}:9000\" }}] }}\n"
        )
    }

    #[test]
    fn every_default_lab_writes_a_fleet_file_that_the_language_reads() {
        let kinds = [Kind::Plain, Kind::Kubernetes];
        for (cells, kind) in (1..=8).flat_map(|cells| kinds.map(|kind| (cells, kind))) {
            let flaws = if cells > 1 {
                vec![named("managed-database")]
            } else {
                Vec::new()
            };
            let description = Description::default_fleet(cells);
            let layout = Layout::new("a", kind, &flaws, &description, &place()).unwrap();
            let text = crate::fleet_file::text(&layout);
            let fleet = scenarios::read_fleet(&text, "a.yaml").unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(fleet.cells.len(), cells);
            let shares: f64 = fleet.entrypoints["shop"].shares.values().sum();
            assert!((shares - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_users_fleet_keeps_its_names_and_addresses() {
        let layout = fleet(RED, &cell("one", "store", "100.64.0.77")).unwrap();
        let one = &layout.cells[0];
        assert_eq!((one.name.as_str(), one.region.as_str()), ("one", "north"));
        assert_eq!(one.addresses[0].to_string(), "100.64.0.99");
        assert_eq!(one.inside[0].to_string(), "10.9.0.0/16");
        let store = one.node("store").unwrap();
        assert_eq!(store.agent.to_string(), "100.64.0.77:9000");
        assert_eq!(one.nodes.len(), 6);
        assert_eq!(
            layout.resolve("managed-db.one").as_deref(),
            Some("managed-db.red")
        );
        assert_eq!(layout.resolve("store.two"), None);
    }

    #[test]
    fn what_a_lab_cannot_build_is_refused_in_words() {
        let refused = |clouds: &str, cells: &str, words: &[&str]| {
            let error = fleet(clouds, cells).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        let good = cell("one", "store", "100.64.0.77");
        refused(RED, &cell("one", "n1", "100.64.0.77"), &["n1", "balancer"]);
        refused(
            RED,
            &cell("one", "store", "100.64.0.40"),
            &["100.64.0.40", "managed database"],
        );
        refused(
            RED,
            &cell("one", "store", "100.64.0.11"),
            &["100.64.0.11", "front-1"],
        );
        let no_room = "    red: { prefixes: [100.64.0.64/26] }\n";
        refused(
            no_room,
            &cell("one", "store", "100.64.0.77"),
            &["red", "/26", "/64"],
        );
        let internet = RED.replace("100.64.0.0/24", "100.64.0.0/24, 203.0.113.128/25");
        refused(
            &internet,
            &good,
            &["203.0.113.128/25", "the lab's internet", "overlap"],
        );
        let second = cell("two", "store", "100.64.0.78").replace("10.9.0.0", "10.8.0.0");
        let second = second.replace("100.64.0.99", "100.64.0.98");
        refused(RED, &(good + &second), &["one", "two", "red"]);
    }

    #[test]
    fn declared_uses_stay_where_the_lab_has_the_address_and_the_rest_is_named() {
        let database = "db: { address: 100.64.0.40, port: 5432 }";
        let nothing = "billing: { address: 100.64.0.200, port: 443 }";
        let cell = cell("one", "store", "100.64.0.77").replace(
            "nodes:",
            &format!("uses: {{ {database}, {nothing} }}, nodes:"),
        );
        let (description, layout) = describe(RED, &cell).unwrap();
        let text = crate::fleet_file::text(&layout);
        let written = scenarios::read_fleet(&text, "a.yaml").unwrap_or_else(|e| panic!("{e}"));
        let uses = &written.cells["one"].uses;
        assert_eq!(uses.keys().collect::<Vec<_>>(), ["db"]);
        assert_eq!(uses["db"].address.to_string(), "100.64.0.40");
        let remark = crate::fleet_file::remark(&description, &layout);
        for word in ["probes", "operator", "references", "dropped one.billing"] {
            assert!(remark.contains(word), "{remark}");
        }
        assert!(!remark.contains("one.db"), "{remark}");
    }

    #[test]
    fn an_inside_without_room_for_pods_is_refused_for_clusters_only() {
        let cell = cell("one", "n1", "100.64.0.77").replace("10.9.0.0/16", "10.9.0.0/20");
        let plain = cell.replace("n1", "store");
        assert!(fleet(RED, &plain).is_ok());
        let text = describe_kind(Kind::Kubernetes, RED, &cell)
            .unwrap_err()
            .to_string();
        assert!(text.contains("`one`") && text.contains("/17"), "{text}");
    }

    #[test]
    fn a_flaw_between_cells_needs_two_of_them() {
        let description = Description::default_fleet(1);
        let flaws = [named("shared-config")];
        let made = Layout::new("a", Kind::Plain, &flaws, &description, &place());
        assert!(made.unwrap_err().to_string().contains("shared-config"));
    }

    #[test]
    fn flaws_that_contradict_each_other_or_the_kind_are_refused() {
        let description = Description::default_fleet(3);
        let refused = |kind, flaws: &[&str], wanted: &[&str]| {
            let flaws: Vec<Flaw> = flaws.iter().map(|name| named(name)).collect();
            let made = Layout::new("a", kind, &flaws, &description, &place());
            let text = made.unwrap_err().to_string();
            assert!(wanted.iter().all(|word| text.contains(word)), "{text}");
        };
        let both = ["shared-database", "managed-database"];
        refused(Kind::Plain, &both, &["store", "gd-tencent"]);
        let crowds = ["retry-storm", "recovery-herd"];
        refused(Kind::Plain, &crowds, &crowds);
        let source = ["shared-image-source"];
        refused(Kind::Kubernetes, &source, &source);
    }
}
