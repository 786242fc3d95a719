-- The name is copied from the base model, so that a unique constraint can keep one fingerprint of a name in an environment. Django
-- has no foreign key over two columns; this one holds the copy to the base model's own name.
ALTER TABLE registry_environmentbasemodel
    DROP CONSTRAINT IF EXISTS environment_serves_a_base_model_under_its_own_name,
    ADD CONSTRAINT environment_serves_a_base_model_under_its_own_name
        FOREIGN KEY (base_model_id, name) REFERENCES registry_basemodel (id, name) DEFERRABLE INITIALLY DEFERRED;
