import java.time.Duration;
import java.util.Map;

import org.apache.kafka.connect.mirror.RemoteClusterUtils;

/** Prints what a consumer that moves from a mirrored cluster asks: which clusters are upstream, and where it was there. */
public final class RemoteOffsets {
    public static void main(String[] args) throws Exception {
        Map<String, Object> target = Map.of("bootstrap.servers", args[0]);
        String source = args[1];
        System.out.println("upstream " + RemoteClusterUtils.upstreamClusters(target));
        System.out.println("hops " + RemoteClusterUtils.replicationHops(target, source));
        for (int i = 2; i < args.length; i++) {
            String group = args[i];
            RemoteClusterUtils.translateOffsets(target, source, group, Duration.ofMinutes(1)).forEach((partition, offset) ->
                System.out.println("offset " + group + " " + partition + " " + offset.offset()));
        }
    }
}
