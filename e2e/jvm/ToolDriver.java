import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;

import org.apache.kafka.common.utils.Exit;
import org.slf4j.LoggerFactory;

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

    /** The first status that a call exits with: a tool may catch the error above and exit once more. */
    private static volatile Integer status;

    private static void exit(int code, String message) {
        if (status == null) {
            status = code;
        }
        if (message != null) {
            System.err.println(message);
        }
        throw new Exited(code);
    }

    public static void main(String[] args) throws Exception {
        LoggerFactory.getLogger(ToolDriver.class).info("the log keeps the JVM's own standard error, it is no part of an answer");
        Exit.setExitProcedure(ToolDriver::exit);
        Exit.setHaltProcedure(ToolDriver::exit);
        Exit.setShutdownHookAdder((name, hook) -> { });
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

    private static String call(String tool, String stdin, String[] args) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        System.setIn(new ByteArrayInputStream(stdin.getBytes(StandardCharsets.UTF_8)));
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        status = null;
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) args);
        } catch (InvocationTargetException e) {
            if (!(e.getCause() instanceof Exited)) { // what the java command does
                System.err.print("Exception in thread \"main\" ");
                e.getCause().printStackTrace();
                status = 1;
            }
        }
        System.out.flush();
        System.err.flush();
        return status == null ? word("0") + word(out) + word(err) : word(status) + word(out) + word(err);
    }

    private static String word(Object text) {
        return "." + Base64.getEncoder().encodeToString(text.toString().getBytes(StandardCharsets.UTF_8)) + " ";
    }
}
