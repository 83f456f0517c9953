import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;

/** Posts a body to a URL by the JDK's client as it comes, which offers HTTP/2: once, or until its input is closed. */
class Ask {
    static final int CLIENTS = 8;

    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(arguments[1]))
            .build();
        if (arguments.length == 2) {
            HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(response.statusCode() + " " + response.version() + " " + response.body());
            return;
        }
        AtomicBoolean closed = new AtomicBoolean();
        AtomicInteger answered = new AtomicInteger();
        AtomicInteger failed = new AtomicInteger();
        ArrayList<Thread> threads = new ArrayList<>();
        for (int number = 0; number < CLIENTS; number++) {
            Thread thread = new Thread(() -> {
                while (!closed.get()) {
                    try {
                        int status = client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode();
                        if (status == 200) {
                            answered.incrementAndGet();
                        } else {
                            failed.incrementAndGet();
                            System.err.println(status);
                        }
                    } catch (Exception error) {
                        failed.incrementAndGet();
                        System.err.println(error);
                    }
                }
            });
            threads.add(thread);
            thread.start();
        }
        System.in.readAllBytes();
        closed.set(true);
        for (Thread thread : threads) {
            thread.join();
        }
        System.out.println(answered + " answered, " + failed + " failed");
    }
}
