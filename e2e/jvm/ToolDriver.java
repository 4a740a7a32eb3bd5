import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;

import org.apache.kafka.common.utils.Exit;

/**
 * Calls the main methods of Kafka's tools one after the other in one JVM, because a start of the JVM costs more than the call.
 * A line of standard input is one call: class, standard input and arguments, each in base64 with a dot before it. A line of
 * standard output is its answer: exit status, standard output and standard error, likewise.
 */
public final class ToolDriver {
    /** What an exit becomes, so that the call ends and the JVM does not. */
    private static final class Exited extends Error {
        Exited(int status) {
            super("exit " + status, null, false, false);
        }
    }

    /** The first status that a call exits with: a tool may catch the error above, print it, and exit once more. */
    private static volatile Integer status;

    /** The JVM's shutdown hooks. */
    private static Map<Thread, Thread> hooks;

    private static void exit(int code, String message) {
        if (message != null) {
            System.err.println(message);
        }
        if (status == null) {
            status = code;
            runHooks();
            System.setOut(new PrintStream(OutputStream.nullOutputStream()));
            System.setErr(new PrintStream(OutputStream.nullOutputStream()));
        }
        throw new Exited(code);
    }

    /** Does what the call wanted done when the JVM ends: a producer is closed and its last records are reported. */
    private static void runHooks() {
        for (Thread hook : List.copyOf(hooks.keySet())) {
            Runtime.getRuntime().removeShutdownHook(hook);
            hook.run();
        }
    }

    public static void main(String[] args) throws Exception {
        hooks = shutdownHooks();
        hooks.clear(); // of the JVM's own
        Exit.setExitProcedure(ToolDriver::exit);
        Exit.setHaltProcedure(ToolDriver::exit);
        PrintStream answers = System.out;
        BufferedReader calls = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = calls.readLine(); line != null; line = calls.readLine()) {
            List<String> words = new ArrayList<>();
            for (String word : line.split(" ")) {
                words.add(new String(Base64.getDecoder().decode(word.substring(1)), StandardCharsets.UTF_8));
            }
            answers.println(call(words.get(0), words.get(1), words.subList(2, words.size()).toArray(new String[0])));
            answers.flush();
        }
    }

    @SuppressWarnings("unchecked")
    private static Map<Thread, Thread> shutdownHooks() throws Exception {
        Field field = Class.forName("java.lang.ApplicationShutdownHooks").getDeclaredField("hooks");
        field.setAccessible(true); // the JVM is started with java.lang opened
        return (Map<Thread, Thread>) field.get(null);
    }

    private static String call(String tool, String stdin, String[] args) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        System.setIn(new ByteArrayInputStream(stdin.getBytes(StandardCharsets.UTF_8)));
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        status = null;
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) args);
            runHooks();
        } catch (InvocationTargetException e) {
            if (!(e.getCause() instanceof Exited)) { // what the java command does
                System.err.print("Exception in thread \"main\" ");
                e.getCause().printStackTrace();
                status = 1;
                runHooks();
            }
        }
        System.out.flush();
        System.err.flush();
        return word(status == null ? 0 : status) + word(out) + word(err);
    }

    private static String word(Object text) {
        return "." + Base64.getEncoder().encodeToString(text.toString().getBytes(StandardCharsets.UTF_8)) + " ";
    }
}
