import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.CRL;
import java.security.cert.CertPathBuilder;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.TrustAnchor;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.Date;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509TrustManager;

/**
 * Java's PKIX, asked line by line: NAME=VALUE pairs parted by tabs in, "accepted" or "refused"
 * with words out. One virtual machine answers for a whole run, for it starts slowly.
 */
public final class Pkix {
    private static final PKIXRevocationChecker.Option[] CRLS_ALONE = {
        PKIXRevocationChecker.Option.PREFER_CRLS, PKIXRevocationChecker.Option.NO_FALLBACK
    };

    private final Map<String, String> asked;

    private Pkix(String line) {
        asked = new HashMap<>();
        for (String pair : line.split("\t")) {
            int equals = pair.indexOf('=');
            asked.put(pair.substring(0, equals), pair.substring(equals + 1));
        }
    }

    public static void main(String[] arguments) throws Exception {
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        CompletableFuture<String> served = null;
        for (String line; (line = in.readLine()) != null; ) {
            Pkix one = new Pkix(line);
            String answer;
            try {
                switch (one.asked.get("do")) {
                    case "path" -> answer = one.path();
                    case "connect" -> answer = one.connect();
                    case "serve" -> {
                        served = new CompletableFuture<>();
                        answer = one.serve(served);
                    }
                    default -> answer = served.get();
                }
            } catch (Exception fault) {
                answer = refused(fault);
            }
            System.out.println(answer.replaceAll("\\s+", " "));
            System.out.flush();
        }
    }

    private static String refused(Throwable fault) {
        var words = new StringBuilder("refused");
        for (Throwable t = fault; t != null; t = t.getCause()) {
            words.append(" | ").append(t.getClass().getSimpleName());
            if (t instanceof CertPathValidatorException invalid) {
                words.append(" ").append(invalid.getReason());
                words.append(" at ").append(invalid.getIndex());
            }
            words.append(": ").append(t.getMessage());
        }
        return words.toString();
    }

    // ── paths: validated as given, built from a heap, and by the trust manager of TLS ──────────

    private String path() throws Exception {
        List<X509Certificate> chain = certificates(asked.get("chain"));
        var answers = new ArrayList<String>();
        answers.add(attempt(() -> CertPathValidator.getInstance("PKIX")
            .validate(factory().generateCertPath(chain), parameters(chain))));
        answers.add(attempt(() -> CertPathBuilder.getInstance("PKIX").build(parameters(chain))));
        answers.add(attempt(() -> {
            X509Certificate[] given = chain.toArray(new X509Certificate[0]);
            if (asked.get("purpose").equals("client")) {
                trust(chain).checkClientTrusted(given, "EC");
            } else {
                trust(chain).checkServerTrusted(given, "ECDHE_ECDSA");
            }
        }));
        String verdict = answers.get(0).split(" ")[0];
        boolean agreed = answers.stream().allMatch(answer -> answer.startsWith(verdict));
        return (agreed ? verdict : "disagreed") + " || " + String.join(" || ", answers);
    }

    private interface Act {
        void run() throws Exception;
    }

    private static String attempt(Act act) {
        try {
            act.run();
            return "accepted";
        } catch (Exception fault) {
            return refused(fault);
        }
    }

    private PKIXBuilderParameters parameters(List<X509Certificate> chain) throws Exception {
        X509Certificate root = certificates(asked.get("root")).get(0);
        var target = new X509CertSelector();
        if (!chain.isEmpty()) {
            target.setCertificate(chain.get(0));
            boolean client = "client".equals(asked.get("purpose"));
            target.setExtendedKeyUsage(Set.of("1.3.6.1.5.5.7.3." + (client ? 2 : 1)));
        }
        var parameters = new PKIXBuilderParameters(Set.of(new TrustAnchor(root, null)), target);
        if (asked.containsKey("at")) {
            parameters.setDate(new Date(Long.parseLong(asked.get("at"))));
        }
        var heap = new ArrayList<Object>(chain);
        Collections.reverse(heap);
        parameters.setRevocationEnabled(false);
        if (asked.containsKey("crls")) {
            heap.addAll(crls(asked.get("crls")));
            var checker = (PKIXRevocationChecker) CertPathBuilder.getInstance("PKIX")
                .getRevocationChecker();
            checker.setOptions(EnumSet.of(CRLS_ALONE[0], CRLS_ALONE[1]));
            parameters.setRevocationEnabled(true);
            parameters.addCertPathChecker(checker);
        }
        parameters.addCertStore(
            CertStore.getInstance("Collection", new CollectionCertStoreParameters(heap)));
        return parameters;
    }

    private X509TrustManager trust(List<X509Certificate> chain) throws Exception {
        return (X509TrustManager) managers(chain)[0];
    }

    private TrustManager[] managers(List<X509Certificate> chain) throws Exception {
        PKIXBuilderParameters parameters = parameters(chain);
        if (chain.isEmpty()) {
            parameters.setTargetCertConstraints(new X509CertSelector());
        }
        TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
        factory.init(new CertPathTrustManagerParameters(parameters));
        return factory.getTrustManagers();
    }

    // ── handshakes ──────────────────────────────────────────────────────────────────────────────

    private SSLContext context() throws Exception {
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys(), managers(List.of()), null);
        return context;
    }

    private KeyManager[] keys() throws Exception {
        if (!asked.containsKey("key")) {
            return new KeyManager[0];
        }
        char[] none = new char[0];
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, none);
        Certificate[] chain = certificates(asked.get("chain")).toArray(new Certificate[0]);
        store.setKeyEntry("own", key(chain[0].getPublicKey().getAlgorithm()), none, chain);
        KeyManagerFactory factory = KeyManagerFactory.getInstance("PKIX");
        factory.init(store, none);
        return factory.getKeyManagers();
    }

    private PrivateKey key(String algorithm) throws Exception {
        String pem = Files.readString(Path.of(asked.get("key")));
        byte[] der = Base64.getMimeDecoder().decode(pem.replaceAll("-----[A-Z ]+-----", ""));
        return KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(der));
    }

    private String connect() throws Exception {
        int port = Integer.parseInt(asked.get("port"));
        try (var plain = new Socket(InetAddress.getLoopbackAddress(), port)) {
            plain.setSoTimeout(20_000);
            SSLSocket socket = (SSLSocket) context().getSocketFactory()
                .createSocket(plain, asked.get("host"), port, true);
            SSLParameters parameters = socket.getSSLParameters();
            parameters.setEndpointIdentificationAlgorithm("HTTPS");
            socket.setSSLParameters(parameters);
            socket.getOutputStream().write("GET / HTTP/1.0\r\n\r\n".getBytes());
            var answer = new String(socket.getInputStream().readAllBytes());
            return "accepted " + socket.getSession().getPeerPrincipal() + " " + answer;
        }
    }

    private String serve(CompletableFuture<String> served) throws Exception {
        var server = (SSLServerSocket) context().getServerSocketFactory()
            .createServerSocket(0, 1, InetAddress.getLoopbackAddress());
        server.setNeedClientAuth(true);
        var thread = new Thread(() -> {
            try (server; SSLSocket socket = (SSLSocket) server.accept()) {
                socket.setSoTimeout(20_000);
                socket.startHandshake();
                String name = socket.getSession().getPeerPrincipal().getName();
                socket.getOutputStream().write("HTTP/1.0 200 OK\r\n\r\nhello\n".getBytes());
                served.complete("accepted " + name);
            } catch (Exception fault) {
                served.complete(refused(fault));
            }
        });
        thread.setDaemon(true);
        thread.start();
        return "accepted " + server.getLocalPort();
    }

    // ── files ───────────────────────────────────────────────────────────────────────────────────

    private static CertificateFactory factory() throws Exception {
        return CertificateFactory.getInstance("X.509");
    }

    private static List<X509Certificate> certificates(String file) throws Exception {
        var found = new ArrayList<X509Certificate>();
        try (var in = new FileInputStream(file)) {
            for (Certificate one : factory().generateCertificates(in)) {
                found.add((X509Certificate) one);
            }
        }
        return found;
    }

    private static List<CRL> crls(String files) throws Exception {
        var found = new ArrayList<CRL>();
        for (String file : files.split(",")) {
            try (var in = new FileInputStream(file)) {
                found.addAll(factory().generateCRLs(in));
            }
        }
        return found;
    }
}
