//! systemd's directives that supd lacks, each with what to do instead.

/// What to do instead of a systemd directive that supd lacks; `None` where systemd has none of
/// that name either. `value` decides for Type= and Accept=.
#[must_use]
pub fn remedy(key: &str, value: Option<&str>) -> Option<&'static str> {
    match (key, value) {
        ("Type", Some(kind)) if !kind.is_empty() => return Some(type_remedy(kind)),
        ("Accept", Some("no" | "false" | "0")) => return Some("take it out: supd never accepts"),
        _ => {}
    }
    if key.starts_with("Condition") || key.starts_with("Assert") {
        return Some(CONDITION);
    }
    GROUPS.iter().find(|(keys, _)| keys.split_whitespace().any(|name| name == key)).map(|(_, remedy)| *remedy)
}

/// What to do instead of a table of systemd's.
#[must_use]
pub fn table_remedy(name: &str) -> Option<&'static str> {
    match name {
        "Install" => {
            Some("a unit starts at boot by itself; Start = \"manual\" under [Service] if it should not")
        }
        "Timer" | "Path" => Some("leave this to a systemd .timer or .path that calls supctl"),
        "Mount" | "Automount" | "Slice" | "Scope" | "Target" | "Device" => {
            Some("supd runs servers only; leave this to systemd")
        }
        _ => None,
    }
}

/// Type= of systemd.service(5): in supd the question is when a worker counts as ready.
fn type_remedy(kind: &str) -> &'static str {
    match kind {
        "notify" => "take it out: Ready = \"notify\" is the default",
        "notify-reload" => "take it out and write ReloadSignal = \"SIGHUP\"",
        "simple" | "exec" | "idle" => {
            "write Ready = \"started\", or better a check such as Ready = [\"command\"]"
        }
        "forking" => {
            "let the program stay in the foreground (nginx: -g 'daemon off;') and write Ready = \"started\" or a check"
        }
        "oneshot" => {
            "supd runs servers only; leave this to systemd, or to ExecStartPre of the unit that needs it"
        }
        "dbus" => "write Ready = [\"command\"] with a command that asks for the name on the bus",
        _ => "write Ready instead: \"notify\", \"started\" or a check",
    }
}

const CONDITION: &str = "let a command in ExecStartPre fail where the unit must not start";

/// Names that share a remedy, and the remedy.
const GROUPS: &[(&str, &str)] = &[
    ("Type", "write Ready instead: \"notify\" (the default), \"started\" or a check"),
    (
        "PIDFile GuessMainPID ExitType",
        "let the program stay in the foreground, or send MAINPID= over NOTIFY_SOCKET",
    ),
    (
        "After Before Wants Requires Requisite BindsTo BindTo PartOf Upholds Conflicts \
         RequiresOverridable RequisiteOverridable PropagatesReloadTo PropagateReloadTo \
         ReloadPropagatedFrom PropagateReloadFrom PropagatesStopTo StopPropagatedFrom JoinsNamespaceOf \
         RequiresMountsFor WantsMountsFor OnSuccess OnSuccessJobMode OnFailureJobMode OnFailureIsolate \
         IgnoreOnIsolate StopWhenUnneeded AllowIsolate DefaultDependencies SourcePath CollectMode",
        "supd has no order between units: its sockets are bound first and connections wait; what supd as \
         a whole needs belongs into supd.service",
    ),
    ("OnFailure", "write ExecOnFailure = [\"command\"] under [Service]"),
    (
        "RefuseManualStart RefuseManualStop",
        "take it out; who may act on a unit says ControlGroup under [Unit]",
    ),
    (
        "JobTimeoutSec JobRunningTimeoutSec JobTimeoutAction JobTimeoutRebootArgument",
        "write TimeoutStartSec under [Service]",
    ),
    (
        "StartLimitAction FailureAction SuccessAction FailureActionExitStatus SuccessActionExitStatus \
         RebootArgument",
        "supd never reboots a machine; ExecOnFailure can run a command",
    ),
    ("StartLimitInterval", "write StartLimitIntervalSec"),
    ("WantedBy RequiredBy UpheldBy Also Alias DefaultInstance", "take it out; see Start under [Service]"),
    ("Documentation SurviveFinalKillSignal", "take it out, or make it a comment"),
    ("ExecCondition ExecStopPre", "use ExecStartPre or ExecStop"),
    ("ExecReloadPost", "make it a further command of ExecReload"),
    ("TimeoutSec", "write TimeoutStartSec and TimeoutStopSec"),
    (
        "TimeoutAbortSec TimeoutStartFailureMode TimeoutStopFailureMode TimeoutCleanSec",
        "take it out: after TimeoutStopSec comes SIGKILL",
    ),
    ("RuntimeMaxSec RuntimeRandomizedExtraSec", "let a systemd timer call supctl restart"),
    ("RestartForceExitStatus", "write Restart = \"always\""),
    (
        "RestartSteps RestartMaxDelaySec RestartMode",
        "take it out: RestartSec is the first delay and grows by itself",
    ),
    ("RemainAfterExit", "supd runs servers only; leave a oneshot to systemd"),
    (
        "PermissionsStartOnly RootDirectoryStartOnly",
        "every command runs as User; let root's part be done before, by the package or by systemd",
    ),
    ("NonBlocking", "take it out: the flag is shared by both generations; let the program set it"),
    ("BusName USBFunctionDescriptors USBFunctionStrings RefreshOnReload", "take it out"),
    ("Sockets Service", "take it out: the [[Socket]] tables of this file are the unit's listeners"),
    ("OpenFile", "let the program open the file itself"),
    ("OOMPolicy", "take it out: a worker that is killed is relaunched as Restart says"),
    (
        "SendSIGKILL SendSIGHUP FinalKillSignal WatchdogSignal",
        "take it out: KillSignal, then TimeoutStopSec, then SIGKILL; a fired watchdog sends SIGABRT",
    ),
    ("RestartKillSignal", "take it out: KillSignal is sent in every case"),
    (
        "RootDirectory RootImage RootImageOptions RootImagePolicy RootHash RootHashSignature RootVerity \
         RootEphemeral RootMStack ExtensionDirectories ExtensionImages ExtensionImagePolicy MountImages \
         MountImagePolicy MountFlags MountAPIVFS BindPaths BindReadOnlyPaths BindLogSockets \
         TemporaryFileSystem PrivateMounts",
        "supd gives a worker the machine's own files; start a container or bwrap in ExecStart if it needs \
         others",
    ),
    (
        "PrivateDevices PrivateNetwork PrivateUsers PrivateIPC PrivatePIDs PrivateBPF \
         ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectClock ProtectControlGroups \
         ProtectHostname ProtectProc ProcSubset NetworkNamespacePath IPCNamespacePath UserNamespacePath \
         KeyringMode SecureBits LockPersonality Personality MemoryDenyWriteExecute RestrictNamespaces \
         RestrictRealtime RestrictSUIDSGID RestrictAddressFamilies RestrictFileSystems \
         SystemCallArchitectures SystemCallErrorNumber SystemCallLog ReadOnlyPaths InaccessiblePaths \
         ExecPaths NoExecPaths ReadWriteDirectories ReadOnlyDirectories InaccessibleDirectories \
         SELinuxContext AppArmorProfile SmackProcessLabel BPFDelegateCommands BPFDelegateMaps \
         BPFDelegatePrograms BPFDelegateAttachments",
        "for this unit supd offers User, NoNewPrivileges, CapabilityBoundingSet, ProtectSystem, \
         ProtectHome, PrivateTmp, ReadWritePaths and SystemCallFilter; what shall hold for all units \
         belongs into supd.service",
    ),
    (
        "DynamicUser PAMName SetLoginEnvironment UtmpIdentifier UtmpMode RemoveIPC",
        "write User = \"name\" with a system user of the package (sysusers.d)",
    ),
    (
        "LoadCredential LoadCredentialEncrypted SetCredential SetCredentialEncrypted ImportCredential",
        "put the secret into a file that only User can read, and name it in Environment or \
         EnvironmentFile",
    ),
    ("UnsetEnvironment", "take it out: a worker gets only what the unit names"),
    ("ExecSearchPath", "write an absolute path, or Environment = { PATH = \"…\" }"),
    (
        "IOSchedulingClass IOSchedulingPriority CPUSchedulingPolicy CPUSchedulingPriority \
         CPUSchedulingResetOnFork CPUAffinity NUMAPolicy NUMAMask TimerSlackNSec",
        "use Nice, or begin ExecStart with ionice, chrt, taskset or numactl",
    ),
    ("CoredumpFilter CoredumpReceive", "use LimitCORE"),
    ("IgnoreSIGPIPE", "take it out: a worker gets SIGPIPE as every program expects it, not ignored"),
    (
        "StandardInput StandardInputText StandardInputData TTYPath TTYReset TTYVHangup TTYVTDisallocate \
         TTYRows TTYColumns",
        "take it out: standard input is /dev/null",
    ),
    (
        "SyslogFacility SyslogLevel SyslogLevelPrefix LogLevelMax LogRateLimitIntervalSec \
         LogRateLimitBurst LogExtraFields LogNamespace LogFilterPatterns DebugInvocation",
        "see StandardOutput, SyslogIdentifier and LogMaxSize",
    ),
    (
        "RuntimeDirectoryMode StateDirectoryMode CacheDirectoryMode LogsDirectoryMode \
         RuntimeDirectoryPreserve StateDirectoryQuota StateDirectoryAccounting CacheDirectoryQuota \
         CacheDirectoryAccounting LogsDirectoryQuota LogsDirectoryAccounting",
        "take it out, or make the directory with tmpfiles.d",
    ),
    ("ConfigurationDirectory ConfigurationDirectoryMode", "let the package make the directory under /etc"),
    (
        "Slice Delegate DelegateSubgroup DisableControllers CPUAccounting CPUWeight StartupCPUWeight \
         CPUShares StartupCPUShares CPUQuotaPeriodSec AllowedCPUs StartupAllowedCPUs AllowedMemoryNodes \
         StartupAllowedMemoryNodes MemoryAccounting MemoryMin MemoryLow MemoryHigh MemorySwapMax \
         MemoryZSwapMax MemoryZSwapWriteback MemoryLimit MemoryKSM StartupMemoryLow StartupMemoryHigh \
         StartupMemoryMax StartupMemorySwapMax StartupMemoryZSwapMax DefaultMemoryMin DefaultMemoryLow \
         DefaultStartupMemoryLow MemoryPressureWatch MemoryPressureThresholdSec TasksAccounting \
         IOAccounting IOWeight StartupIOWeight IODeviceWeight IOReadBandwidthMax IOWriteBandwidthMax \
         IOReadIOPSMax IOWriteIOPSMax IODeviceLatencyTargetSec BlockIOAccounting BlockIOWeight \
         StartupBlockIOWeight BlockIODeviceWeight BlockIOReadBandwidth BlockIOWriteBandwidth \
         ManagedOOMSwap ManagedOOMMemoryPressure ManagedOOMMemoryPressureLimit \
         ManagedOOMMemoryPressureDurationSec ManagedOOMPreference DeviceAllow DevicePolicy",
        "for this unit supd offers MemoryMax, TasksMax and CPUQuota; what shall hold for all units \
         belongs into supd.service",
    ),
    (
        "IPAccounting IPAddressAllow IPAddressDeny IPIngressFilterPath IPEgressFilterPath BPFProgram \
         SocketBindAllow SocketBindDeny RestrictNetworkInterfaces NFTSet",
        "listen on one address only, or use nftables",
    ),
    ("FileDescriptorName", "write Name"),
    (
        "Accept",
        "supd hands listening sockets to servers that accept; leave a program for each connection to \
         systemd",
    ),
    (
        "MaxConnections MaxConnectionsPerSource",
        "supd never accepts: let the server limit its connections; Backlog limits those that wait",
    ),
    (
        "TriggerLimitIntervalSec TriggerLimitBurst PollLimitIntervalSec PollLimitBurst DeferTrigger \
         DeferTriggerMaxSec",
        "take it out: StartLimitBurst under [Service] limits launches, and never for ever",
    ),
    ("ReusePort", "take it out: supd sets SO_REUSEPORT itself when a second slot is needed"),
    (
        "DirectoryMode Symlinks RemoveOnStop FlushPending Writable PipeSize",
        "take it out; directories and links belong into tmpfiles.d",
    ),
    (
        "ListenNetlink ListenSpecial ListenMessageQueue ListenUSBFunction SocketProtocol \
         MessageQueueMaxMessages MessageQueueMessageSize",
        "supd binds ListenStream, ListenDatagram, ListenSequentialPacket and ListenFIFO",
    ),
    (
        "Priority IPTOS IPTTL Mark Transparent Broadcast PassCredentials PassPIDFD PassSecurity \
         AcceptFileDescriptors Timestamping SmackLabel SmackLabelIPIn SmackLabelIPOut \
         SELinuxContextFromNet PassFileDescriptorsToExec",
        "let the server set this on the socket that it gets (setsockopt)",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::keys::TABLES;
    use super::{GROUPS, remedy};

    /// What `systemd --dump-configuration-items` of version 252 lists for [Unit], [Service] and
    /// [Socket], and what the manuals of later versions add.
    const DIRECTIVES: &str = include_str!("../../../tests/unitfiles/systemd-directives.txt");

    #[test]
    fn every_directive_of_systemd_is_ours_or_refused_by_name() {
        let directives = DIRECTIVES.lines().filter(|line| !line.starts_with('#'));
        let unknown: Vec<&str> = directives
            .filter(|key| !TABLES.iter().any(|(_, _, keys)| keys.contains(key)))
            .filter(|key| remedy(key, None).is_none())
            .collect();
        assert_eq!(unknown, [""; 0]);
    }

    #[test]
    fn no_name_is_both_ours_and_refused() {
        let mut seen = Vec::new();
        for key in GROUPS.iter().flat_map(|(keys, _)| keys.split_whitespace()) {
            assert!(!TABLES.iter().any(|(_, _, keys)| keys.contains(&key)), "{key} is ours");
            assert!(!seen.contains(&key), "{key} is here twice");
            seen.push(key);
        }
    }
}
