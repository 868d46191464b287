# The worker that template_conformance.py asks for, in Perl.
use strict;
use warnings;

$| = 1;

sub main {
    print $ENV{SAYS}, ' ', int(rand(1e15)), "\n";
    return int(<STDIN>);
}
1;
