//! Links, addresses, routes, rules, queueing disciplines, nftables and sysctls of this namespace.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Section;
use crate::program;

/// What counts things that pass.
const UNSTABLE: &[&str] = &["/proc/sys/net/netfilter/nf_conntrack_count"];

/// The devices are those whose classes and filters are asked for.
pub fn take(devices: &[&str], all: &mut BTreeMap<Section, Vec<String>>) -> Result<(), String> {
    // A batch is one program for all questions: starting them takes longer than their answers.
    let [links, addresses, routes, mut rules] = objects(
        "-d -j -batch -",
        ["link", "addr", "route show table all", "rule"],
    )?;
    let [rules_of_ipv6] = objects("-6 -d -j -batch -", ["rule"])?;
    rules.extend(rules_of_ipv6);
    // A link also tells of its queueing discipline, which has a section of its own, and an address
    // of its whole link.
    all.insert(Section::Links, told(links, |name| name != "qdisc"));
    let own = ["ifname", "addr_info"];
    all.insert(
        Section::Addresses,
        told(addresses, |name| own.contains(&name)),
    );
    all.insert(Section::Routes, told(routes, |_| true));
    all.insert(Section::Rules, told(rules, |_| true));
    let mut asked = "qdisc show\n".to_owned();
    for device in devices {
        for what in ["class show dev", "filter show dev"] {
            asked.push_str(&format!("{what} {device}\n"));
        }
        asked.push_str(&format!("filter show dev {device} ingress\n"));
        asked.push_str(&format!("filter show dev {device} egress\n"));
    }
    all.insert(Section::Qdiscs, joined(lines("tc", "-d -batch -", &asked)?));
    all.insert(
        Section::Nft,
        nested(&lines("nft", "-s -a list ruleset", "")?),
    );
    Ok(())
}

/// Those of the network.
pub fn sysctls() -> Result<Vec<String>, String> {
    let mut told = Vec::new();
    read_sysctls(Path::new("/proc/sys/net"), &mut told)?;
    told.sort();
    Ok(told)
}

/// The answers of `ip` to the questions, in its JSON.
fn objects<const N: usize>(words: &str, asked: [&str; N]) -> Result<[Vec<Value>; N], String> {
    let answers = lines("ip", words, &(asked.join("\n") + "\n"))?;
    let read = |line: &String| {
        serde_json::from_str(line).map_err(|cause| format!("ip {words}: {cause}: {line}"))
    };
    let lists = answers.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let count = lists.len();
    let unlike = |_| format!("ip {words}: {count} answers to {N} questions");
    lists.try_into().map_err(unlike)
}

/// A line for each object, with the members that are wanted.
fn told(objects: Vec<Value>, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let line = |mut object: Value| {
        if let Some(members) = object.as_object_mut() {
            members.retain(|name, _| wanted(name));
        }
        object.to_string()
    };
    objects.into_iter().map(line).collect()
}

fn lines(name: &str, words: &str, input: &str) -> Result<Vec<String>, String> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let output = program::output(name, &words, input)?;
    if !output.status.success() {
        return Err(program::failure(name, &words, &output));
    }
    let text = program::text(&output.stdout);
    Ok(text
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect())
}

/// What belongs to a line and stands below it, indented, goes behind it.
fn joined(lines: Vec<String>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    for line in lines {
        match joined.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => joined.push(line),
        }
    }
    joined
}

/// Each line of a ruleset behind the table and chain that it is in.
fn nested(lines: &[String]) -> Vec<String> {
    let mut within: Vec<&str> = Vec::new();
    let mut told = Vec::new();
    for line in lines
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
    {
        if line == "}" {
            within.pop();
            continue;
        }
        told.push([&within[..], &[line]].concat().join(" "));
        // An element list is closed on its own last line.
        if let Some((opened, after)) = line.split_once('{')
            && !after.contains('}')
            && !opened.contains('=')
        {
            within.push(opened.trim());
        }
    }
    told
}

fn read_sysctls(folder: &Path, told: &mut Vec<String>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|cause| format!("{}: {cause}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            read_sysctls(&path, told)?;
            continue;
        }
        let name = path.display().to_string();
        if UNSTABLE.contains(&name.as_str()) {
            continue;
        }
        match fs::read(&path) {
            Ok(value) => {
                let value = String::from_utf8_lossy(&value).trim().replace('\n', " ");
                told.push(format!("{name} = {value}"));
            }
            // Some can only be written, and some have no value until they get one.
            Err(cause) => told.push(format!("{name}: {}", cause.kind())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_rule_bears_its_table_and_chain() {
        let text = "table inet f { # handle 1\n\tset s { # handle 3\n\t\ttype ipv4_addr\n\
                    \t\telements = { 10.0.0.0/8,\n\t\t\t 11.0.0.0/8 }\n\t}\n\n\tchain c {\n\
                    \t\tct state { new, established } accept\n\t\tdrop # handle 2\n\t}\n}\ntable ip g {\n}\n";
        let told = nested(&split(text));
        assert!(
            told.contains(&"table inet f chain c drop # handle 2".to_owned()),
            "{told:?}"
        );
        assert!(
            told.contains(&"table inet f set s type ipv4_addr".to_owned()),
            "{told:?}"
        );
        assert_eq!(told.last().unwrap(), "table ip g {");
    }

    #[test]
    fn a_link_is_the_same_with_another_qdisc() {
        let link = |qdisc: &str| {
            let object = serde_json::json!({ "ifname": "up0", "qdisc": qdisc, "mtu": 1500 });
            told(vec![object], |name| name != "qdisc")
        };
        assert_eq!(link("tbf"), link("noqueue"));
        assert!(link("tbf")[0].contains("1500"), "{:?}", link("tbf"));
    }

    #[test]
    fn indented_lines_go_behind_theirs() {
        let text = "filter parent 7: u32\n  match 0a000000/ff000000 at 16\nqdisc x";
        assert_eq!(
            joined(split(text)),
            [
                "filter parent 7: u32 match 0a000000/ff000000 at 16",
                "qdisc x"
            ]
        );
    }
}
