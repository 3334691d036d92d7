import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Drains a topic with Confluent Parallel Consumer, UNORDERED, as its own benchmark does. One JVM for all runs, so that
 * it is warm: each line of standard input, TOPIC GROUP COUNT SLOTS MAX_MS, is a run and gets one line back in the form
 * of lane_run's. Its only argument: the brokers.
 */
public final class Drain {
	private static long cpuMs() {
		var os = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
		return os.getProcessCpuTime() / 1_000_000;
	}

	/** The same length for the same offset as lane_run's job_us: 0 to @max ms, whole ones. */
	private static long jobMs(long offset, int max) {
		return ((offset * 2654435761L) >>> 16) % (max + 1);
	}

	private static void run(String brokers, String topic, String group, int count, int slots, int maxMs)
			throws Exception {
		var p = new Properties();
		p.put("bootstrap.servers", brokers);
		p.put("group.id", group);
		p.put("enable.auto.commit", "false");
		p.put("auto.offset.reset", "earliest");
		p.put("max.poll.records", "10000");
		long began = System.nanoTime();
		long cpu = cpuMs();
		var consumer = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
		var options = ParallelConsumerOptions.<byte[], byte[]>builder()
				.ordering(ProcessingOrder.UNORDERED)
				.maxConcurrency(slots)
				.commitMode(CommitMode.PERIODIC_CONSUMER_ASYNCHRONOUS)
				.consumer(consumer)
				.build();
		var seen = new AtomicIntegerArray(count);
		var again = new AtomicLong();
		var first = new AtomicLong();
		var left = new CountDownLatch(count);
		var processor = ParallelStreamProcessor.createEosStreamProcessor(options);
		processor.subscribe(List.of(topic));
		processor.poll(context -> {
			long offset = context.getSingleConsumerRecord().offset();
			if (first.get() == 0)
				first.compareAndSet(0, System.nanoTime());
			if (maxMs > 0) {
				long ms = jobMs(offset, maxMs);
				try {
					if (ms > 0)
						Thread.sleep(ms);
				} catch (InterruptedException e) {
					Thread.currentThread().interrupt();
				}
			}
			if (seen.getAndIncrement((int) offset) != 0)
				again.incrementAndGet();
			else
				left.countDown();
		});
		left.await();
		long now = System.nanoTime();
		cpu = cpuMs() - cpu;
		System.out.printf("peer %d %.1f %.1f %d %d%n", count, (now - first.get()) / 1e6, (now - began) / 1e6, cpu,
				again.get());
		System.out.flush();
		processor.close();
	}

	public static void main(String[] args) throws Exception {
		var in = new BufferedReader(new InputStreamReader(System.in));
		for (String line = in.readLine(); line != null; line = in.readLine()) {
			var w = line.trim().split(" +");
			run(args[0], w[0], w[1], Integer.parseInt(w[2]), Integer.parseInt(w[3]), Integer.parseInt(w[4]));
		}
	}
}
