import java.io.IOException;
import java.nio.charset.StandardCharsets;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.handler.AbstractHandler;

/** Serves on the socket that supd lends, says when it does, and ends gracefully on SIGTERM. */
public class Server extends AbstractHandler {
    private static final String RELEASE = System.getenv("SUPD_RELEASE");
    private static volatile boolean ending;

    @Override
    public void handle(String path, Request base, HttpServletRequest request, HttpServletResponse answer)
            throws IOException {
        if (path.equals("/slow")) { // a swap lets it finish
            try {
                Thread.sleep(100);
            } catch (InterruptedException e) {
                throw new IOException(e);
            }
        }
        answer.setHeader("X-Served-By", RELEASE + "/" + ProcessHandle.current().pid());
        var body = ("hello from release " + RELEASE + "\n").getBytes(StandardCharsets.UTF_8);
        answer.setContentLength(body.length); // also on the last answer of a connection
        if (ending) {
            answer.setHeader("Connection", "close"); // a client that is told loses nothing
        }
        answer.getOutputStream().write(body);
        base.setHandled(true);
    }

    /**
     * Ends gracefully. (Jetty's own ways lose requests: setStopAtShutdown ends those under way; with a
     * StatisticsHandler it answers 503 to those that come on kept-alive connections meanwhile; and
     * shutdown() of a connector ends connections behind answers that did not say so.)
     */
    private static void end(org.eclipse.jetty.server.Server server, ServerConnector connector) {
        try {
            ending = true; // answers from now on say "Connection: close"
            connector.close(); // accept no more; who is connected may ask once more
            var open = connector.getConnectedEndPoints();
            open.forEach(connection -> connection.setIdleTimeout(5_000)); // or is silent that long
            // Until none has been open for a while: one that was just accepted is not listed at once.
            for (int looks = 0, none = 0; looks < 3_000 && none < 50; looks++) {
                Thread.sleep(10);
                none = open.isEmpty() ? none + 1 : 0;
            }
            server.stop();
        } catch (Exception e) {
            e.printStackTrace();
        }
    }

    public static void main(String[] arguments) throws Exception {
        var server = new org.eclipse.jetty.server.Server();
        var connector = new ServerConnector(server) {
            @Override
            protected boolean handleAcceptFailure(Throwable failure) {
                return !ending && super.handleAcceptFailure(failure); // closed, as it is meant to be
            }
        };
        connector.setInheritChannel(true); // System.inheritedChannel()
        server.addConnector(connector);
        server.setHandler(new Server());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> end(server, connector))); // SIGTERM
        server.start();
        // Java has no datagrams on UNIX sockets: a child says it, and supd believes the server's children.
        if (new ProcessBuilder("systemd-notify", "--ready").inheritIO().start().waitFor() != 0) {
            System.exit(1);
        }
        server.join();
    }
}
