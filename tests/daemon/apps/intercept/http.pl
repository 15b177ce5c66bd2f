# As perldoc IO::Socket::INET has it: one connection after the other, a request on each.
use strict;
use warnings;
use IO::Socket::INET;

my $server = IO::Socket::INET->new(LocalPort => @PORT@, Listen => 5, ReuseAddr => 1) or die "listen: $@";
while (my $client = $server->accept) {
    while (defined(my $line = <$client>)) {
        last if $line =~ /^\r?$/;
    }
    print $client "HTTP/1.1 200 OK\r\nX-Served-By: $ENV{SUPD_RELEASE}/$$\r\nContent-Length: 6\r\n",
        "Connection: close\r\n\r\nhello\n";
    close $client;
}
