-- 0023 edges: room on each page for the outcomes of all edges on it.
-- works with: 1
-- Workers may keep running. Edges that are there keep their pages.
--
-- The outcome of each edge is written once. With a fillfactor of 70, only two in five stayed on their page (HOT), as
-- those of one transaction do not make room for each other. The others cost an entry in both indexes: a quarter of
-- what attending to a member takes, and as many bytes as the room.

alter table pgqueue.edge set (fillfactor = 50);
