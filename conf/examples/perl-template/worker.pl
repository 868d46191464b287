# Loaded once by template.pl; main() is a worker. The table is made before any worker is forked.
use strict;
use warnings;
use Socket;

my %square = map { $_ => $_ * $_ } 0 .. 100_000;

sub notify {
    my ($text) = @_;
    my $path = $ENV{NOTIFY_SOCKET} or return;
    socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or return;
    send $socket, $text, 0, pack_sockaddr_un($path =~ s/^@/\0/r);
}

sub main {
    $| = 1;
    my $stop = 0;
    $SIG{TERM} = sub { $stop = 1 };
    notify('READY=1');
    for (my $n = 0; !$stop; $n++) {
        notify("STATUS=$ENV{REEVE_WORKER}: the square of $n is $square{$n % 100_001}");
        sleep 1;
    }
    print "$ENV{REEVE_WORKER} ends\n";
    return 0;
}
1;
