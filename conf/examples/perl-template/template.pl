#!/usr/bin/perl
# A template (reeve-template(7)) in Perl, with nothing but what Debian's perl brings along:
#
#     template.pl FILE    loads FILE once; each worker calls its main(), whose value is the exit code
#
# It forks twice, so that the worker becomes a child of the daemon. What it does not do that
# a template may: look for threads and devices before a fork (Perl code has none by accident).
use strict;
use warnings;
use POSIX ();
require 'syscall.ph';

my @TAGS = (undef, qw(VERSIONS MODE GROUP COUNT GENERATION ENTRY PRELOAD PRELOAD_ERRORS ALLOW_THREAD
    PATH RUNTIME TEXT LOAD_US TASKS RSS FDS ERROR NAME INDEX INCARNATION ARG ENV CWD UMASK NICE
    LIMIT FD_MAP PID STAGE ERRNO));
my %TAG = map { $TAGS[$_] => $_ } 1 .. $#TAGS;
my %FORM = (VERSIONS => 'L2', COUNT => 'L', GENERATION => 'L', LOAD_US => 'Q', TASKS => 'L',
    RSS => 'Q', FDS => 'L', INDEX => 'L', INCARNATION => 'L', UMASK => 'L', NICE => 'l',
    LIMIT => 'L2Q2', FD_MAP => 'l*', PID => 'l', ERRNO => 'l');
my ($HELLO, $LOADING, $READY, $FORK, $SPAWNED, $FAILED, $PING, $PONG, $QUIT, $BORN, $FAIL, $GO) =
    (1 .. 6, 8 .. 10, 32 .. 34);

sub give_up { print STDERR "template.pl: @_\n"; POSIX::_exit(1) }

# --- messages --------------------------------------------------------------------------------

sub say_to {
    my ($fd, $type, $request, @records) = @_;
    my $body = '';
    while (my ($name, $value) = splice @records, 0, 2) {
        $value = pack $FORM{$name}, ref $value ? @$value : $value if $FORM{$name};
        $body .= pack('SSL', $TAG{$name}, 0, length $value) . $value;
        $body .= "\0" x (-length($value) % 8);
    }
    my $packet = pack('SSLLL', $type, 0, 16 + length $body, $request, 0) . $body;
    POSIX::write($fd, $packet, length $packet);
}

# (type, request, {NAME => [values]}, fds) or () at the end of the channel.
sub hear {
    my ($fd) = @_;
    my ($data, $control) = ("\0" x 65536, "\0" x 1100);
    my $vector = pack 'PQ', $data, length $data;
    my $header = pack 'QLx4PQPQlx4', 0, 0, $vector, 1, $control, length $control, 0;
    my $got = syscall(&SYS_recvmsg, $fd, $header, 0x40000000);    # MSG_CMSG_CLOEXEC
    return if $got <= 0;
    my ($length, $kind) = (unpack 'QLx4PQPQlx4', $header)[5, 6];
    my @fds = $length >= 16 ? unpack 'x16l*', substr $control, 0, unpack 'Q', $control : ();
    my ($type, $flags, $bytes, $request, $zero) = unpack 'SSLLL', substr $data, 0, 16;
    give_up('a packet that is not as long as it says') if $got < 16 || $bytes != $got;
    give_up('a field that has to be zero and is not') if $flags || $zero;
    my %records;
    for (my $at = 16; $at < $got;) {
        give_up('bytes behind the last record') if $got - $at < 8;
        my ($tag, $optional, $size) = unpack 'SSL', substr $data, $at, 8;
        my $padding = -$size % 8;
        give_up('a record longer than its packet') if $at + 8 + $size + $padding > $got;
        my ($value, $rest) = unpack "x8a${size}a$padding", substr $data, $at, 8 + $size + $padding;
        give_up('padding that is not zero') if $rest =~ /[^\0]/;
        $at += 8 + $size + $padding;
        my $name = $TAGS[$tag];
        if (!$tag || !$name) { give_up("an unknown tag $tag") unless $optional & 1; next }
        push @{ $records{$name} }, $FORM{$name} ? [unpack $FORM{$name}, $value] : $value;
    }
    return ($type, $request, \%records, @fds);
}

sub figures { return (TASKS => 1, RSS => (split ' ', slurp('/proc/self/statm'))[1] * 4096,
        FDS => scalar open_fds()) }
sub slurp { open my $file, '<', $_[0] or return ''; local $/; return <$file> }
sub open_fds { opendir my $dir, '/proc/self/fd' or return ();
    return grep { /^\d+$/ && $_ != fileno $dir } readdir $dir }

# --- the worker ------------------------------------------------------------------------------

sub step { my ($name, $good) = @_; die [$name, $! + 0, "$!"] unless $good; return $good }

sub become {
    my ($own, $order, @fds) = @_;
    $SIG{$_} = 'DEFAULT' for grep { !/^(KILL|STOP|NUM\d+|__\w+)$/ } keys %SIG;
    my ($target, %keep, %stay) = ($order->{FD_MAP}[0]);
    for my $i (1 .. $#fds) {    # out of the way first: a number may be another's wish
        step(fds => defined($keep{ $target->[$i] } = POSIX::dup2($fds[$i], 500 + $i)))
            if $target->[$i] >= 0;
    }
    %stay = map { $_ => 1 } $own, values %keep;
    $stay{$_} or POSIX::close($_) for open_fds();
    POSIX::open('/dev/null', POSIX::O_RDWR()) for grep { !defined $keep{$_} } 0 .. 2;
    for (sort { $a <=> $b } keys %keep) { POSIX::dup2($keep{$_}, $_); POSIX::close($keep{$_}) }
    POSIX::setsid();
    for (@{ $order->{LIMIT} || [] }) {
        step(limits => syscall(&SYS_setrlimit, $_->[0], pack 'QQ', @$_[2, 3]) == 0);
    }
    step(nice => setpriority 0, 0, $order->{NICE}[0][0]) if $order->{NICE};
    umask $order->{UMASK}[0][0] if $order->{UMASK};
    step(cwd => chdir $order->{CWD}[0]) if $order->{CWD};
    %ENV = map { split /=/, $_, 2 } @{ $order->{ENV} || [] };
    @ARGV = @{ $order->{ARG} || [] };
    $ENV{$_} and $ENV{$_} = $$ for qw(LISTEN_PID WATCHDOG_PID);
    $0 = $order->{NAME}[0];
    srand;
}

sub work {
    my ($template, $own, $order, @fds) = @_;
    eval { become($own, $order, @fds); 1 } or do {
        my ($stage, $errno, $text) = ref $@ ? @{$@} : ('perl', 0, "$@");
        say_to($own, $FAIL, 0, STAGE => $stage, ERRNO => $errno, TEXT => $text);
        POSIX::_exit(1);
    };
    say_to($own, $BORN, 0, NAME => $order->{NAME}[0], PID => $$);
    my ($type) = hear($own);
    POSIX::_exit(0) unless defined $type && $type == $GO;
    my $parent = getppid;
    syscall(&SYS_prctl, 1, 9, 0, 0, 0);    # PR_SET_PDEATHSIG, SIGKILL
    POSIX::_exit(0) if getppid != $parent || $parent == $template;
    my $code = eval { main() };
    print STDERR $@ if $@;
    $| = 1;                                # what is in the buffer goes out
    print '';
    POSIX::_exit($@ ? 1 : ($code || 0) & 255);
}

# --- the template ----------------------------------------------------------------------------

sub fork_worker {
    my ($channel, $request, $order, @fds) = @_;
    my $template = $$;
    give_up('the map of descriptors does not match them')
        if @fds != @{ ($order->{FD_MAP} || [[]])->[0] } || !@fds;
    pipe my $read, my $write or give_up("pipe: $!");
    my $middle = fork;
    if (defined $middle && $middle == 0) {
        my $worker = fork;
        work($template, POSIX::dup2($fds[0], 400), $order, @fds) if defined $worker && !$worker;
        syswrite $write, pack 'll', $worker || -1, $! + 0;
        POSIX::_exit(0);
    }
    my ($pid, $error) = (-1, $! + 0);
    close $write;
    if (defined $middle) {
        waitpid $middle, 0;
        sysread $read, my $said, 8;
        ($pid, $error) = unpack 'll', $said;
    }
    POSIX::close($_) for @fds;
    return say_to($channel, $SPAWNED, $request, PID => $pid) if $pid > 0;
    say_to($channel, $FAILED, $request, STAGE => 'fork', ERRNO => $error,
        TEXT => POSIX::strerror($error));
}

my $number = delete $ENV{REEVE_CHANNEL} // '';
give_up('reeved starts this program, see reeve-template(7)') if $number !~ /^\d+$/ || !@ARGV;
my $channel = POSIX::dup2($number, 300);
POSIX::close($number);
$SIG{INT} = sub { };
my ($type, undef, $hello) = hear($channel) or POSIX::_exit(0);
give_up('no HELLO') if $type != $HELLO;
say_to($channel, $HELLO, 0, VERSIONS => [1, 1], RUNTIME => sprintf 'perl %vd', $^V);
my ($low, $high) = @{ $hello->{VERSIONS}[0] };
give_up("versions $low to $high, this one speaks 1") if $low > 1 || $high < 1;
say_to($channel, $LOADING, 0, TEXT => $ARGV[0]);
my $loaded = do $ARGV[0];
my $why = $@ || (!defined $loaded ? "$ARGV[0]: $!" : defined &main ? ''
    : "$ARGV[0]: defines no main(), which each worker calls");
say_to($channel, $READY, 0, LOAD_US => int((times)[0] * 1e6), figures(),
    $why ? (PRELOAD => $ARGV[0], ERROR => $why) : ());
give_up($why) if $why;
while ((my ($kind, $request, $records, @fds) = hear($channel)) > 0) {
    if    ($kind == $PING) { say_to($channel, $PONG, $request, figures()) }
    elsif ($kind == $FORK) { fork_worker($channel, $request, $records, @fds) }
    elsif ($kind == $QUIT) { last }
    else                   { give_up("message $kind is not for a template") }
}
POSIX::_exit(0);
