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
        if (base.getHttpChannel().getConnector().isShutdown()) {
            answer.setHeader("Connection", "close"); // a client that is told loses nothing
        }
        answer.getOutputStream().write(body);
        base.setHandled(true);
    }

    /**
     * Ends gracefully. (Jetty's own setStopAtShutdown ends requests under way, and with a StatisticsHandler
     * it answers 503 to those that come on kept-alive connections meanwhile.)
     */
    private static void end(org.eclipse.jetty.server.Server server, ServerConnector connector) {
        try {
            connector.shutdown(); // accept no more; answers from now on say "Connection: close"
            var open = connector.getConnectedEndPoints();
            open.forEach(connection -> connection.setIdleTimeout(500)); // one more request, or none
            // Until none has been open for a while: one that was just accepted is not listed at once.
            for (int looks = 0, none = 0; looks < 3_000 && none < 30; looks++) {
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
        var connector = new ServerConnector(server);
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
