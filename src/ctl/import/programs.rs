//! The servers that are known by name: how each takes its sockets, stays in the foreground, ends
//! and reloads, and where it says on which addresses it listens. Data, and next to nothing else.
//!
//! From the manuals: nginx(8), redis.conf, lighttpd(8), haproxy(1), postgres(1), pg_ctlcluster(1),
//! sshd(8), cupsd(8), php-fpm(8), apachectl(8), memcached(1), gunicorn, uvicorn, hypercorn, puma,
//! unicorn.

use super::configs::Syntax;

/// How a server gets at its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// LISTEN_FDS.
    Inherited,
    /// LISTEN_FDS, if its configuration says so; else it binds for itself.
    IfConfigured,
    /// Descriptor 3, if these arguments stand in the place of its own address.
    Descriptor(&'static [&'static str]),
    /// It binds for itself, always.
    Binds,
}

/// A change to a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit {
    /// This word goes.
    Drop(&'static str),
    /// These words stand at the end, unless their first or one of the others is there already.
    Add(&'static [&'static str], &'static [&'static str]),
    /// An option has this value.
    Set(&'static str, &'static str),
    /// A directive in the text behind an option (nginx -g) has this value.
    Directive(&'static str, &'static str, &'static str),
}

/// What an option says of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// `host:port`, a port alone, or a path.
    Address,
    /// A port; the host stands behind another option.
    Port,
    /// The host for `Port`; several with commas or spaces.
    Host,
    /// A path.
    Path,
    /// A UDP port; 0 is none.
    Datagrams,
}

/// Where a server's configuration is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Config {
    /// The options that name it.
    pub(super) options: &'static [&'static str],
    /// It may stand as the first argument that is no option.
    pub(super) bare: bool,
    /// Where it is without; relative to WorkingDirectory if it is no absolute path.
    pub(super) file: &'static str,
    pub(super) syntax: Syntax,
}

/// One server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    /// Names of its program; a version may stand behind (php-fpm8.2).
    pub(super) names: &'static [&'static str],
    pub(super) takes: Takes,
    /// What keeps it in the foreground.
    pub(super) foreground: &'static [Edit],
    /// Variables that do it, too.
    pub(super) environment: &'static [(&'static str, &'static str)],
    /// The signal of its graceful end; empty: SIGTERM.
    pub(super) ends: &'static str,
    /// The signal that reloads it; empty: none is known.
    pub(super) reloads: &'static str,
    /// In the foreground it says READY=1, whatever Type= was.
    pub(super) notifies: bool,
    /// Two may not run at once: they would share one set of data.
    pub(super) alone: bool,
    /// It takes the sockets that it is given, and binds those of its configuration that are not
    /// among them.
    pub(super) adds: bool,
    pub(super) config: Option<Config>,
    /// Options that say addresses.
    pub(super) listens: &'static [(&'static str, Says)],
    /// Where it listens if nothing says so.
    pub(super) default: &'static [&'static str],
    /// What else a person has to know.
    pub(super) note: &'static str,
}

/// A server of which only the name is known.
const PLAIN: Program = Program {
    names: &[],
    takes: Takes::Binds,
    foreground: &[],
    environment: &[],
    ends: "",
    reloads: "",
    notifies: false,
    alone: false,
    adds: false,
    config: None,
    listens: &[],
    default: &[],
    note: "",
};

const fn config(options: &'static [&'static str], file: &'static str, syntax: Syntax) -> Option<Config> {
    Some(Config { options, bare: false, file, syntax })
}

const fn bare(syntax: Syntax) -> Option<Config> {
    Some(Config { options: &[], bare: true, file: "", syntax })
}

/// Every server that is known.
pub(super) const PROGRAMS: &[Program] = &[
    Program {
        names: &["nginx", "openresty", "angie", "freenginx"],
        foreground: &[Edit::Directive("-g", "daemon", "off")],
        ends: "SIGQUIT",
        reloads: "SIGHUP",
        config: config(&["-c"], "/etc/nginx/nginx.conf", Syntax::Nginx),
        note: "nginx writes its PID into one file, whichever generation it is of: ask supctl, not that file",
        ..PLAIN
    },
    Program {
        names: &["redis-server", "valkey-server", "keydb-server"],
        foreground: &[Edit::Set("--supervised", "systemd"), Edit::Set("--daemonize", "no")],
        notifies: true,
        alone: true,
        config: bare(Syntax::Redis),
        ..PLAIN
    },
    Program {
        names: &["lighttpd"],
        takes: Takes::IfConfigured,
        foreground: &[Edit::Add(&["-D"], &["-1"])],
        ends: "SIGINT",
        reloads: "SIGUSR1",
        config: config(&["-f"], "/etc/lighttpd/lighttpd.conf", Syntax::Lighttpd),
        ..PLAIN
    },
    Program {
        names: &["haproxy"],
        foreground: &[Edit::Drop("-D"), Edit::Add(&["-Ws"], &["-W", "-db"])],
        ends: "SIGUSR1",
        reloads: "SIGUSR2",
        notifies: true,
        config: config(&["-f"], "/etc/haproxy/haproxy.cfg", Syntax::Haproxy),
        ..PLAIN
    },
    Program {
        names: &["pg_ctlcluster"],
        foreground: &[Edit::Add(&["--foreground"], &[])],
        ends: "SIGINT",
        reloads: "SIGHUP",
        notifies: true,
        alone: true,
        config: bare(Syntax::PostgresCluster),
        ..PLAIN
    },
    Program {
        names: &["postgres", "postmaster"],
        ends: "SIGINT",
        reloads: "SIGHUP",
        alone: true,
        config: config(&["-D"], "", Syntax::Postgres),
        ..PLAIN
    },
    Program {
        names: &["mariadbd", "mysqld"],
        reloads: "SIGHUP",
        alone: true,
        listens: &[("--port", Says::Port), ("--bind-address", Says::Host), ("--socket", Says::Path)],
        ..PLAIN
    },
    Program {
        names: &["sshd"],
        foreground: &[Edit::Add(&["-D"], &["-d", "-i"])],
        reloads: "SIGHUP",
        config: config(&["-f"], "/etc/ssh/sshd_config", Syntax::Sshd),
        ..PLAIN
    },
    Program {
        names: &["cupsd"],
        takes: Takes::Inherited,
        adds: true,
        foreground: &[Edit::Add(&["-f"], &["-l", "-F"])],
        config: config(&["-c"], "/etc/cups/cupsd.conf", Syntax::Cups),
        ..PLAIN
    },
    Program {
        names: &["php-fpm"],
        foreground: &[
            Edit::Drop("--daemonize"),
            Edit::Drop("-D"),
            Edit::Add(&["--nodaemonize"], &["-F", "--force-foreground"]),
        ],
        ends: "SIGQUIT",
        reloads: "SIGUSR2",
        notifies: true,
        config: config(&["--fpm-config", "-y"], "/etc/php-fpm.conf", Syntax::PhpFpm),
        ..PLAIN
    },
    Program {
        names: &["apache2ctl", "apachectl"],
        foreground: APACHE,
        // The script would stay between and take no signal: its own variable makes it give way.
        environment: &[("APACHE_HTTPD", "exec /usr/sbin/apache2")],
        ends: "SIGWINCH",
        reloads: "SIGUSR1",
        config: config(&["-f"], "/etc/apache2/apache2.conf", Syntax::Apache),
        ..PLAIN
    },
    Program {
        names: &["apache2"],
        foreground: APACHE,
        ends: "SIGWINCH",
        reloads: "SIGUSR1",
        config: config(&["-f"], "/etc/apache2/apache2.conf", Syntax::Apache),
        ..PLAIN
    },
    Program {
        names: &["httpd"],
        foreground: APACHE,
        ends: "SIGWINCH",
        reloads: "SIGUSR1",
        config: config(&["-f"], "/etc/httpd/conf/httpd.conf", Syntax::Apache),
        ..PLAIN
    },
    Program {
        names: &["memcached"],
        foreground: &[Edit::Drop("-d"), Edit::Drop("--daemon")],
        listens: &[
            ("-p", Says::Port),
            ("--port", Says::Port),
            ("-l", Says::Host),
            ("--listen", Says::Host),
            ("-s", Says::Path),
            ("--unix-socket", Says::Path),
            ("-U", Says::Datagrams),
            ("--udp-port", Says::Datagrams),
        ],
        default: &["0.0.0.0:11211", "[::]:11211"],
        ..PLAIN
    },
    Program { names: &["systemd-memcached-wrapper"], config: bare(Syntax::Memcached), ..PLAIN },
    Program {
        names: &["gunicorn"],
        takes: Takes::Inherited,
        foreground: &[Edit::Drop("--daemon"), Edit::Drop("-D")],
        reloads: "SIGHUP",
        notifies: true,
        listens: &[("--bind", Says::Address), ("-b", Says::Address)],
        default: &["127.0.0.1:8000"],
        ..PLAIN
    },
    Program {
        names: &["uvicorn"],
        takes: Takes::Descriptor(&["--fd", "3"]),
        listens: &[("--port", Says::Port), ("--host", Says::Host), ("--uds", Says::Path)],
        default: &["127.0.0.1:8000"],
        ..PLAIN
    },
    Program {
        names: &["hypercorn"],
        takes: Takes::Descriptor(&["--bind", "fd://3"]),
        listens: &[("--bind", Says::Address), ("-b", Says::Address)],
        default: &["127.0.0.1:8000"],
        ..PLAIN
    },
    Program {
        names: &["puma"],
        takes: Takes::Inherited,
        foreground: &[Edit::Drop("-d"), Edit::Drop("--daemon")],
        config: config(&["-C", "--config"], "config/puma.rb", Syntax::Puma),
        listens: &[
            ("--bind", Says::Address),
            ("-b", Says::Address),
            ("--port", Says::Port),
            ("-p", Says::Port),
        ],
        default: &["0.0.0.0:9292"],
        note: "puma takes supd's socket where its own bind names the same address: keep the two alike",
        ..PLAIN
    },
    Program {
        names: &["unicorn", "unicorn_rails"],
        takes: Takes::Inherited,
        foreground: &[Edit::Drop("-D"), Edit::Drop("--daemonize")],
        ends: "SIGQUIT",
        reloads: "SIGHUP",
        listens: &[
            ("--listen", Says::Address),
            ("-l", Says::Address),
            ("--port", Says::Port),
            ("-p", Says::Port),
        ],
        default: &["0.0.0.0:8080"],
        ..PLAIN
    },
];

const APACHE: &[Edit] =
    &[Edit::Drop("start"), Edit::Drop("-k"), Edit::Add(&["-D", "FOREGROUND"], &["-DFOREGROUND", "-X"])];

/// What options of a server that is not known by name most likely say.
pub(super) const USUAL: &[(&str, Says)] = &[
    ("--port", Says::Port),
    ("-port", Says::Port),
    ("--http-port", Says::Port),
    ("--server.port", Says::Port),
    ("-Dserver.port", Says::Port),
    ("--host", Says::Host),
    ("--address", Says::Address),
    ("--addr", Says::Address),
    ("-addr", Says::Address),
    ("--bind", Says::Address),
    ("-bind", Says::Address),
    ("--listen", Says::Address),
    ("-listen", Says::Address),
    ("--listen-address", Says::Address),
    ("--web.listen-address", Says::Address),
    ("--http-address", Says::Address),
];

/// Programs that start another one: their name, the words of theirs that may stand before it, and
/// whether the other one keeps the process ID.
pub(super) const WRAPPERS: &[(&str, &[&str], bool)] = &[
    ("bundle", &["exec"], false),
    ("poetry", &["run"], true),
    ("pipenv", &["run"], true),
    ("uv", &["run"], false),
    ("npm", &["exec", "run", "start"], false),
    ("yarn", &["run", "start"], false),
    ("pnpm", &["exec", "run", "start"], false),
    ("npx", &[], false),
    ("env", &[], true),
    ("nice", &[], true),
    ("ionice", &[], true),
    ("python", &["-m"], true),
    ("python3", &["-m"], true),
    ("ruby", &[], true),
];

/// Names for ports that everybody knows.
pub(super) const PORTS: &[(u16, &str)] = &[
    (22, "ssh"),
    (80, "http"),
    (443, "https"),
    (631, "ipp"),
    (3306, "mysql"),
    (5432, "postgresql"),
    (6379, "redis"),
    (8000, "http"),
    (8080, "http"),
    (8443, "https"),
    (11211, "memcached"),
];

/// The server of this program, if it is known.
pub(super) fn find(program: &str) -> Option<&'static Program> {
    let name = file_name(program);
    let is_it = |known: &&str| {
        let version = name.strip_prefix(*known);
        version.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-')))
    };
    PROGRAMS.iter().find(|program| program.names.iter().any(is_it))
}

/// The last part of a program's path.
pub(super) fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}
