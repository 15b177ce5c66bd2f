import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

/** As the documentation of jdk.httpserver has it. */
public class Http {
    public static void main(String[] arguments) throws IOException {
        var served = System.getenv("SUPD_RELEASE") + "/" + ProcessHandle.current().pid();
        var server = HttpServer.create(new InetSocketAddress(@PORT@), 0);
        server.createContext("/", exchange -> {
            exchange.getResponseHeaders().set("X-Served-By", served);
            // It closes where its client asked for that, and does not say so by itself, which wrk wants.
            if ("close".equals(exchange.getRequestHeaders().getFirst("Connection"))) {
                exchange.getResponseHeaders().set("Connection", "close");
            }
            exchange.sendResponseHeaders(200, 6);
            try (var body = exchange.getResponseBody()) {
                body.write("hello\n".getBytes());
            }
        });
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
    }
}
